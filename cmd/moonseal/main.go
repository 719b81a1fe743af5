// Command moonseal renews TLS certificates on appliances that cannot run an ACME client.
// See the README.
package main

import (
	"os"

	"moonseal/cmd/moonseal/cli"
)

func main() {
	os.Exit(cli.Main())
}
