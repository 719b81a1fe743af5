// Package peers compares moonseal with the ACME clients that a Go program would use in
// its place, certmagic and lego: throughput and processor time of the same
// certificates from the same CA.
//
// It is a module of its own, so that the peers stay out of moonseal's go.mod. make
// bench runs it, and judges its figures by cmd/moonseal/cli/testdata/bench.goals.
package peers
