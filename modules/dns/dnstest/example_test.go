package dnstest_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"moonseal/modules/dns/dnstest"
)

// A record that the second of two servers shows an hour late is not seen by the resolver.
func Example() {
	if err := delay(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ns1 [text]
	// ns2 []
	// resolver []
}

func delay(ctx context.Context) error {
	world, err := dnstest.Start(dnstest.Options{Zones: []string{"example.com"}, Servers: 2, PropagationDelay: []time.Duration{0, time.Hour}})
	if err != nil {
		return err
	}
	defer world.Close()
	if _, err := world.Add(dnstest.Record{Name: "x.example.com", Type: "TXT", Value: "text"}); err != nil {
		return err
	}
	for _, server := range []struct{ name, addr string }{{"ns1", world.Server(1)}, {"ns2", world.Server(2)}, {"resolver", world.Resolver()}} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.addr)
		}}
		texts, _ := r.LookupTXT(ctx, "x.example.com.") // an error if there are none
		fmt.Println(server.name, texts)
	}
	return nil
}
