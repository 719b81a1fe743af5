package cucm_test

import (
	"context"
	"fmt"
	"net"

	"moonseal/modules/cucm"
	"moonseal/modules/cucm/cucmtest"
)

// The certificate of a node whose own certificate and host key are pinned.
func Example() {
	if err := installed(context.Background(), "cucm01-pub.automate.builders"); err != nil {
		fmt.Println(err)
	}
	// Output: [cucm01-pub.automate.builders]
}

func installed(ctx context.Context, host string) error {
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

	node, err := cucm.New(cucm.Options{
		Host: host, Username: "administrator",
		Password: func(context.Context) (string, error) { return "pass-word-1", nil },
		Pins:     []string{cluster.Node(host).ServedSHA256()}, HostKeys: []string{hostKey},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, cluster.Addrs()[addr])
		},
	})
	if err != nil {
		return err
	}
	defer node.Close()
	cert, err := node.Identity(ctx, "tomcat")
	if err != nil {
		return err
	}
	fmt.Println(cert.Names)
	return nil
}
