package ssh_test

import (
	"context"
	"fmt"
	"strings"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/ssh"
)

// A command on an appliance whose host key is pinned.
func Example() {
	if err := list(context.Background(), "cucm01-pub.automate.builders"); err != nil {
		fmt.Println(err)
	}
	// Output: Cisco Tomcat[STARTED]
}

func list(ctx context.Context, host string) error {
	cluster, err := cucmtest.New(cucmtest.Options{
		Domain: "automate.builders", Nodes: []cucmtest.NodeOptions{{Host: "cucm01-pub"}}, Username: "administrator", Password: "pass-word-1",
	})
	if err != nil {
		return err
	}
	if err := cluster.Start(); err != nil {
		return err
	}
	defer cluster.Close()
	hostKey, err := cluster.Node(host).HostKeyFingerprint()
	if err != nil {
		return err
	}

	s, err := ssh.Dial(ctx, ssh.Config{
		Addr: cluster.Node(host).SSHAddr(), User: "administrator", HostKeys: []string{hostKey},
		Password: func(context.Context) (string, error) { return "pass-word-1", nil },
	})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	out, err := s.Run(ctx, "utils service list", nil)
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Cisco Tomcat[") {
			fmt.Print(line)
		}
	}
	return err
}
