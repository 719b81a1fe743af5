// Package systest tests moonseal as its users have it: the program that go build makes,
// reached through its command line, its files, its socket, and a lab's control API.
//
// It is a module of its own that imports nothing of moonseal, so that what only these
// tests need reaches neither moonseal's go.mod nor its licences, and so that no test can
// depend on what a user does not see. make test runs it; with MOONSEAL_TEST=full, which
// make testfull sets, its tests do all that they otherwise do a sample of.
//
// # What each file tests
//
//	typed     every shell line of the README and of the guides
//	kill      SIGKILL of the daemon, of a run's process, of both, during a renewal
//	stop      SIGTERM while runs are at each step of the pipeline
//	disk      a full disk, and one that turns read-only
//	cluster   a certificate for two nodes, interrupted half-way
//	serve     the daemon by hand, its locks, the service manager's socket
//	reload    scripts that are saved while runs are under way
//	cancel    a cancel of a call under way, and of a process that is stopped
//	group     a user of the socket's group, who may read no file
//	terminal  what is shown on a terminal, and Ctrl-C
//	unit      examples/systemd, by systemd-analyze
//	container examples/container, as far as that goes without an engine
//	machine   systemd, cgroups and a power cut in a virtual machine (make vmtest)
//	image     the container image in that machine (make imagetest)
//
// # What stays in cmd/moonseal/cli
//
// A test stays there if it needs a hook inside the process. TestCrash, TestCrashTwice,
// TestCrashWithLocks, TestCrashInCluster, TestDeathsPark, TestRestartAfterCancel and
// TestUndoKeepsTheGrantOfItsChange kill at an instant that nothing outside can see, such as
// between the mark of a call in the journal and the call. TestAnotherBuildsDaemon and
// TestAnotherBuildsChild let the program claim to be another build.
// TestWhatWasRemovedIsSaid, TestOperators and TestNeedsDaemon write the journal that they
// begin with. The txtar tests under testdata read like a manual of the command line, which
// they belong to.
package systest
