package systest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// doors are ways to the lab that only those processes know that read the config while
// they were in it.
type doors struct {
	s      *site
	config []byte // without them

	mu   sync.Mutex
	last map[string]time.Time     // by host: when something last came in
	shut map[string]chan struct{} // by host:port: no further caller is let in until it is closed
	lag  time.Duration            // the longest that this process had to wait for a processor
	all  sync.WaitGroup
}

// measure measures the lag until quit is closed.
func (d *doors) measure(quit <-chan struct{}) {
	const every = 2 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		now := time.Now()
		d.mu.Lock()
		d.lag = max(d.lag, now.Sub(last)-every)
		d.mu.Unlock()
		last = now
	}
}

// openDoors puts a door before each address in the config, but those of name
// servers, which are only asked.
func (s *site) openDoors() *doors {
	s.t.Helper()
	d := &doors{s: s, last: map[string]time.Time{}, shut: map[string]chan struct{}{}}
	d.config = []byte(read(s.t, s.config()))
	hosts, _ := s.settings()["hosts"].(map[string]any)
	var listeners []net.Listener
	for name, to := range hosts {
		_, port, err := net.SplitHostPort(name)
		s.check(err)
		if port == "53" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(s.t.Context(), "tcp4", "127.0.0.1:0")
		s.check(err)
		listeners = append(listeners, l)
		hosts[name] = l.Addr().String()
		d.all.Go(func() { d.stand(l, name, to.(string)) })
	}
	quit := make(chan struct{})
	d.all.Go(func() { d.measure(quit) })
	s.t.Cleanup(func() {
		close(quit)
		for _, l := range listeners {
			_ = l.Close()
		}
		d.all.Wait()
	})
	s.set(map[string]any{"hosts": hosts})
	return d
}

// leave takes the doors out of the config. They stay open.
func (d *doors) leave() {
	d.s.t.Helper()
	d.s.check(os.WriteFile(d.s.config(), d.config, 0o600))
}

// stand lets in all callers, until l is closed.
func (d *doors) stand(l net.Listener, name, to string) {
	host, _, _ := net.SplitHostPort(name)
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		d.passed(host)
		d.all.Go(func() {
			d.mu.Lock()
			shut := d.shut[name]
			d.mu.Unlock()
			if shut != nil {
				<-shut
			}
			d.letIn(from, host, to)
		})
	}
}

func (d *doors) letIn(from net.Conn, host, to string) {
	defer func() { _ = from.Close() }()
	in, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(from, in)
		_ = from.Close()
	}()
	defer func() { <-back }()
	defer func() { _ = in.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			d.passed(host)
			if _, err := in.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// close keeps out all further callers of host:port, until the function is called.
func (d *doors) close(name string) (open func()) {
	shut := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut[name] = shut
	open = sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.shut, name)
		close(shut)
	})
	d.s.t.Cleanup(open)
	return open
}

func (d *doors) passed(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[host] = time.Now()
}
