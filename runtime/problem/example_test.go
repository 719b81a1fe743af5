package problem_test

import (
	"fmt"

	"moonseal/runtime/problem"
)

func Example() {
	err := error(&problem.Error{
		Kind: problem.Refused, Call: "cucm.upload", Target: "cucm01.example.com",
		Message: "the appliance refused the certificate", Server: "CA certificate is missing", Tracking: "a1b2",
		Hint: "upload the root first",
	})
	e := problem.From(err)
	fmt.Println(e)
	fmt.Println(e.Kind.Retryable(), e.Happened(), e.Hint)
	// Output:
	// cucm.upload: cucm01.example.com: the appliance refused the certificate: "CA certificate is missing" (tracking id a1b2)
	// false no upload the root first
}
