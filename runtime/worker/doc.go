// Package worker runs a run in a process of its own, and whatever else executes a
// script.
//
// # The two ends
//
// The parent owns the journal, the secrets and the terminal. It starts a child with
// limits that the kernel keeps, and one end of a pair of pipes. The child ([Serve])
// does one job: it runs a playbook ([Parent.Begin], [Parent.Resume]), tells what is
// in scripts ([Parent.Load]), or looks at what a playbook's handles stand for
// ([Parent.Examine]). Each record that must be synced goes over the pair and is
// answered when it is. A child that runs a playbook holds the run's lock for life.
// Every child ends when its pair closes.
//
// Of children that take up a run only a few load their scripts at the same time: where
// many continue at once, as after a restart of the daemon, the first is at work soon.
//
// # The wire
//
// Frames of four bytes of length, big endian, a byte that says their form, and what
// they say: JSON, but for what each step sends. The parent speaks first, with a
// [Job]. A child's request that expects an answer has a number, and the answer bears
// it. Records that need no sync of their own wait a moment in the child for one that
// does, or until a function reaches outside: a child that dies in it has said where
// it was.
//
// # What a child may do
//
// It leads a process group of its own, and has rlimits and, where one was
// delegated to the parent ([Groups]), a cgroup. It inherits nothing but the pair
// and the lock. It is born without the way to new privileges and inside a [Jail]
// of Landlock, which the thread that starts it has put itself into before; it then
// seals itself: it starts no program, signals nobody (seccomp) and shows nobody its
// memory. The network is [moonseal/runtime/grant.Network]'s. What a kernel does not
// have is done without.
//
// # Deaths
//
// A child that ends without a result has died: of its memory limit, of a bug, by
// someone's hand, by its own because a function continued for long after it was told
// to end ([Setup.OnHang]), or by its parent's because it was stopped (SIGSTOP) for
// long, or when its run was cancelled. The run is taken up again by a new child;
// after [MaxDeaths] in one step it parks, and says how the last one died.
package worker
