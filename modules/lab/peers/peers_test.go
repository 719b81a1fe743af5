package peers

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"moonseal/runtime/journal/journaltest"
)

// race is the contestants in one testbed.
type race struct {
	tb      testing.TB
	testbed *testbed
	csrs    [][]byte
	exe     string // moonseal
}

// newRace prepares n certificates, beside the first one of each contestant.
func newRace(tb testing.TB, n int) *race {
	tb.Helper()
	r := &race{tb: tb, testbed: newTestbed(tb), exe: build(tb)}
	for i := range n + 1 {
		r.csrs = append(r.csrs, newCSR(tb, hostName(i)))
	}
	return r
}

func (r *race) daemon() *daemon {
	r.tb.Helper()
	d, err := startDaemon(r.tb, r.testbed, r.exe, r.csrs)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() {
		if err := d.stop(); err != nil {
			r.tb.Error(err)
		}
	})
	return d
}

// peers starts the peers' processes at the same time: they mostly sleep until they are
// ready.
func (r *race) peers() (c, l *peerProcess) {
	r.tb.Helper()
	var g errgroup.Group
	for name, into := range map[string]**peerProcess{certmagicName: &c, legoName: &l} {
		g.Go(func() (err error) {
			*into, err = startPeer(r.tb, r.testbed, name, r.csrs)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		r.tb.Fatal(err)
	}
	return c, l
}

// obtain has a contestant obtain its certificates, and checks that the CA issued them.
func (r *race) obtain(c contestant) cost {
	r.tb.Helper()
	before := r.testbed.issued(r.tb)
	took, err := c.obtain()
	if err != nil {
		r.tb.Fatal(err)
	}
	if got, want := r.testbed.issued(r.tb)-before, len(r.csrs)-1; got != want {
		r.tb.Fatalf("the CA issued %d certificates, want %d", got, want)
	}
	return took
}

// BenchmarkFiftyCertificates: 50 certificates, eight at a time, by a moonseal serve that is
// asked over its socket for 50 runs at once, and by certmagic's ObtainCertSync and
// lego's ObtainForCSR in a process each; from the first request until the last is there.
// All have a first certificate already. They share Pebble and the DNS in the
// benchmark's process, which takes processor time from all alike, and publish their
// records over the same Cloudflare, certmagic with libdns's provider and lego with its
// own. The peers have their defaults but for what newCertmagic and newLego name.
//
// Processor time is user and system time of the daemon with its runs' processes,
// and of the peer's process. A ratio above 1 is moonseal's favour in throughput, and the
// peer's in processor time.
//
// Goals: 4 times certmagic's throughput at 5 times its processor time, 40 times lego's
// at the same processor time, and 60 ms for one run alone, from its creation to its
// end. The floor, `moonseal version`, is a process of the same program.
func BenchmarkFiftyCertificates(b *testing.B) {
	r := newRace(b, 50)
	d := r.daemon()
	var ours, certmagics, legos costs
	var alone, floor []time.Duration
	for b.Loop() {
		for range 10 {
			floor = append(floor, journaltest.Time(b, exec.CommandContext(b.Context(), r.exe, "version").Run))
			took, err := d.alone()
			if err != nil {
				b.Fatal(err)
			}
			alone = append(alone, took)
		}
		certmagic, lego := r.peers()
		certmagics.add(r.obtain(certmagic))
		ours.add(r.obtain(d))
		legos.add(r.obtain(lego))
		for _, p := range []*peerProcess{certmagic, lego} {
			if err := p.stop(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of all contestants together
	b.ReportMetric(milliseconds(alone), "ms/alone")
	b.ReportMetric(milliseconds(floor), "ms/floor")
	b.ReportMetric(milliseconds(alone)/milliseconds(floor), "alone-ratio")
	ours.report(b, "moonseal")
	certmagics.report(b, certmagicName)
	legos.report(b, legoName)
	ours.against(b, certmagicName, certmagics)
	ours.against(b, legoName, legos)
}

// costs are what a contestant needed in each round.
type costs struct{ walls, processors []time.Duration }

func (c *costs) add(one cost) {
	c.walls, c.processors = append(c.walls, one.wall), append(c.processors, one.processor)
}

// medians returns the median wall and processor time, in seconds.
func (c *costs) medians() (wall, processor float64) {
	return journaltest.Median(c.walls).Seconds(), journaltest.Median(c.processors).Seconds()
}

func (c *costs) report(b *testing.B, name string) {
	b.Helper()
	wall, processor := c.medians()
	b.ReportMetric(wall, "s-"+name)
	b.ReportMetric(processor, "cpu-s-"+name)
}

func (c *costs) against(b *testing.B, name string, peer costs) {
	b.Helper()
	wall, processor := c.medians()
	peerWall, peerProcessor := peer.medians()
	b.ReportMetric(peerWall/wall, name+"-throughput-ratio")
	b.ReportMetric(processor/peerProcessor, name+"-cpu-ratio")
}

func milliseconds(list []time.Duration) float64 {
	return float64(journaltest.Median(list).Microseconds()) / 1000
}

// TestContestants has each contestant obtain two certificates: it fails once a peer's
// or moonseal's interface no longer fits the benchmark.
func TestContestants(t *testing.T) {
	r := newRace(t, 2)
	certmagic, lego := r.peers()
	for _, c := range []contestant{r.daemon(), certmagic, lego} {
		took := r.obtain(c)
		t.Logf("%T: %+v", c, took)
		if took.wall <= 0 || took.processor < 0 {
			t.Errorf("it took %+v", took)
		}
	}
	for _, c := range []contestant{certmagic, lego} {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}
}
