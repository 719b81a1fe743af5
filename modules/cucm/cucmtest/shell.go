package cucmtest

import (
	"context"
	"errors"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"

	"moonseal/modules/faults"
)

const (
	prompt    = "admin:"
	startText = "Command Line Interface is starting up, please wait ...\n\n"
	welcome   = "   Welcome to the Platform Command Line Interface\n\nVMware Installation:\n\t2 vCPU: Intel(R) Xeon(R) CPU\n\tDisk 1: 110GB, Partitions aligned\n\t8192 Mbytes RAM\n\n"
)

// shell is one session on the platform's command line.
type shell struct {
	node      *Node
	ctx       context.Context // ends when the client goes away
	term      *terminal
	privilege int
}

// runShell serves a session until it ends itself or the client is gone.
func (n *Node) runShell(ctx context.Context, conn *watchedConn, privilege int, channel ssh.Channel, t *terminal) {
	ctx, cancel := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		t.read(ctx)
	}()
	s := &shell{node: n, ctx: ctx, term: t, privilege: privilege}
	switch err := s.run(); {
	case err == nil:
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
	case errors.Is(err, faults.ErrCut):
		conn.cut()
	}
	cancel()
	_ = channel.Close()
	<-read
}

func (s *shell) run() error {
	b := s.node.Behavior()
	if err := s.term.print(s.ctx, startText); err != nil {
		return err
	}
	if err := s.term.sleep(s.ctx, b.BannerDelay); err != nil {
		return err
	}
	if err := s.term.print(s.ctx, welcome); err != nil {
		return err
	}
	if err := s.term.sleep(s.ctx, b.PromptDelay); err != nil {
		return err
	}
	for {
		line, err := s.term.readLine(s.ctx, prompt)
		switch {
		case errors.Is(err, errInterrupt):
			err = s.term.print(s.ctx, "^C\n")
		case errors.Is(err, io.EOF):
			return nil
		case err == nil:
			c := parse(line)
			if c.verb == verbExit {
				return nil
			}
			if err = s.do(c); errors.Is(err, errInterrupt) {
				err = s.term.print(s.ctx, "^C\n")
			}
		}
		if err != nil {
			return err
		}
	}
}

// verb is what a command line asks for.
type verb int

const (
	verbNone verb = iota // an empty line
	verbUnknown
	verbExit
	verbList
	verbRestart
)

type command struct {
	verb    verb
	service string
}

// parse reads a command line. Words are separated by any blanks; the name of a
// service is the rest of the line, to the letter.
func parse(line string) command {
	line = strings.TrimSpace(line)
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return command{verb: verbNone}
	case len(words) == 1 && (words[0] == "exit" || words[0] == "quit"):
		return command{verb: verbExit}
	case len(words) < 3 || words[0] != "utils" || words[1] != "service":
		return command{verb: verbUnknown}
	case words[2] == "list" && len(words) == 3:
		return command{verb: verbList}
	case words[2] == "restart":
		rest := line
		for _, word := range words[:3] {
			_, rest, _ = strings.Cut(rest, word)
		}
		return command{verb: verbRestart, service: strings.TrimSpace(rest)}
	}
	return command{verb: verbUnknown}
}

func (s *shell) do(c command) error {
	switch c.verb {
	case verbList:
		return s.guard(CallServices, nil, s.list)
	case verbRestart:
		return s.restart(c.service)
	case verbUnknown:
		return s.term.print(s.ctx, "No valid command entered\n")
	default:
		return nil
	}
}

// guard lets faults into a command. work is what a fault can prevent or follow;
// show prints the result.
func (s *shell) guard(call string, work func() error, show func() error) error {
	if work == nil {
		work = func() error { return nil }
	}
	err := s.node.c.faults.Do(s.ctx, call, work)
	var status *faults.StatusError
	switch {
	case errors.As(err, &status):
		text := status.Body
		if text == "" {
			text = "Executed command unsuccessfully"
		}
		return s.term.print(s.ctx, strings.TrimRight(text, "\n")+"\n")
	case errors.Is(err, faults.ErrTruncate):
		_ = s.term.print(s.ctx, "Service Manager is run")
		return faults.ErrCut
	case err != nil:
		return err
	}
	return show()
}

func (s *shell) list() error {
	s.node.c.mu.Lock()
	lines := []string{
		"Requesting service status, please wait...", "System SSH [STARTED]", "Cluster Manager [STARTED]", "Service Manager is running",
		"Getting list of all services", ">> Return code = 0",
	}
	for _, v := range s.node.services {
		line := v.name + "[" + string(v.status) + "]"
		if v.note != "" {
			line += "  " + v.note
		}
		lines = append(lines, line)
	}
	s.node.c.mu.Unlock()
	if s.node.role == Publisher {
		lines = append(lines, "Primary Node =true")
	} else {
		lines = append(lines, "Primary Node =false")
	}
	return s.term.page(s.ctx, lines)
}

func (s *shell) restart(name string) error {
	service := s.node.findService(name)
	var r *restart
	switch {
	case name == "":
		return s.term.print(s.ctx, "Executed command unsuccessfully\nMissing the name of the service\n")
	case s.privilege < 1:
		return s.term.print(s.ctx, "Executed command unsuccessfully\nThe user does not have the privilege for this command\n")
	case service == nil:
		return s.term.print(s.ctx, "Service Manager is running\nService ["+name+"] is invalid\n")
	}
	if asks := s.node.Behavior().RestartAsks; asks != "" {
		answer, err := s.term.readLine(s.ctx, asks+" ")
		if err != nil || answer != "yes" {
			return err
		}
	}
	begin := func() error {
		r = s.node.restart(service)
		return nil
	}
	return s.guard(CallRestart, begin, func() error { return s.follow(service, r) })
}

// follow prints how a restart proceeds.
func (s *shell) follow(service *service, r *restart) error {
	const warning = "Do not press Ctrl+C while the service is restarting. If the service has not restarted properly, execute the same command again.\nService Manager is running\n"
	if err := s.term.print(s.ctx, warning); err != nil {
		return err
	}
	if err := s.until(r.down); err != nil {
		return err
	}
	if err := s.term.print(s.ctx, service.name+"["+string(starting)+"]\n"); err != nil {
		return err
	}
	if s.node.Behavior().MissingStarted {
		return nil
	}
	if err := s.until(r.done); err != nil {
		return err
	}
	end := started
	if !r.ok {
		end = stopped
	}
	last := service.name + "[" + string(end) + "]\n"
	if s.node.Behavior().RestartBlames {
		last += "Executed command unsuccessfully\n"
	}
	return s.term.print(s.ctx, last)
}

// until waits for an event; a Ctrl-C goes back to the prompt.
func (s *shell) until(event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-s.term.interrupt:
		return errInterrupt
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
