package dns_test

import (
	"context"
	"fmt"
	"time"

	"moonseal/modules/dns"
	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/secret"
)

// A challenge is published, watched at the zone's servers, and removed.
func Example() {
	if err := publish(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// missing: 1
	// _acme-challenge.www.example.com TXT
	// published
	// left: 0
}

func publish(ctx context.Context) error {
	world, err := dnstest.Start(dnstest.Options{Zones: []string{"example.com"}})
	if err != nil {
		return err
	}
	defer world.Close()
	c := dns.New(dns.Options{
		Dial: world.Dial, HTTP: world.HTTPClient().Transport, Resolvers: []string{dnstest.ResolverHost},
		Secret: func(context.Context, secret.Handle) (string, error) { return world.Credentials().CloudflareToken, nil },
	})
	defer c.Close()

	zone := dns.Zone{Provider: "cloudflare", Name: "example.com", APIToken: secret.Handle{Name: "CF_API_TOKEN"}}
	challenges := []dns.Challenge{{Name: "_acme-challenge.www.example.com.", Value: "gfj9Xq-Rg85nM_QpQ0mF3zSx1v0bXUj3k2TqYwL9aBc"}}
	plan, _, err := c.LookPresent(ctx, zone, challenges) // reads only
	if err != nil {
		return err
	}
	fmt.Println("missing:", len(plan.Missing))
	records, err := c.Present(ctx, zone, plan) // writes what is missing
	if err != nil {
		return err
	}
	for _, r := range records {
		fmt.Println(r.Name, r.Type)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		ok, _, err := c.Propagated(ctx, zone, challenges, dns.Propagation{})
		if err != nil {
			return err
		}
		if ok {
			fmt.Println("published")
			break
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err = c.Remove(ctx, zone, challenges, records, nil)
	fmt.Println("left:", len(world.TXT().Present))
	return err
}
