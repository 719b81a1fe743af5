package acmetest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
)

// A CA whose directory cannot be read once. The test's TestMain calls [acmetest.Main].
func Example() {
	if err := ask(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 503 Service Unavailable
	// 200 OK
	// orders: 0
}

func ask(ctx context.Context) error {
	set := faults.New()
	if _, err := set.Add(faults.Fault{Call: "acme.directory", Kind: faults.Status, Code: 503}); err != nil {
		return err
	}
	ca, err := acmetest.Start(ctx, acmetest.Options{AlwaysValid: true, Faults: set})
	if err != nil {
		return err
	}
	defer func() { _ = ca.Close() }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.CertPool(), MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.DirectoryURL(), nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		fmt.Println(resp.Status)
	}
	ledger, err := ca.Ledger(ctx)
	if err != nil {
		return err
	}
	fmt.Println("orders:", len(ledger.Orders))
	return nil
}
