package cucmtest_test

import (
	"fmt"

	"moonseal/modules/cucm/cucmtest"
)

// A cluster of one node, on which another administrator generates a signing request.
func Example() {
	if err := generate(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// cucm01-pub.automate.builders publisher
	// pending: true
}

func generate() error {
	cluster, err := cucmtest.New(cucmtest.Options{
		Domain:   "automate.builders",
		Nodes:    []cucmtest.NodeOptions{{Host: "cucm01-pub", Role: cucmtest.Publisher}},
		Username: "admin", Password: "pass-word-1",
	})
	if err != nil {
		return err
	}
	if err := cluster.Start(); err != nil { // each node listens at its RESTAddr and SSHAddr
		return err
	}
	defer cluster.Close()
	node := cluster.Node("cucm01-pub.automate.builders")
	fmt.Println(node.FQDN(), node.Role())
	if _, err := node.GenerateCSR("tomcat"); err != nil {
		return err
	}
	fmt.Println("pending:", node.PendingCSR("tomcat") != "")
	return nil
}
