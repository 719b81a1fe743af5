// Package worker executes a run, and whatever else executes a script, in a process of its
// own.
//
// # The two ends
//
// The parent owns the journal, the secrets and the terminal. It starts a child with
// limits that the kernel enforces, and one end of a pair of pipes. The child ([Serve])
// does one job: it runs a playbook ([Parent.Begin], [Parent.Resume]), loads scripts
// ([Parent.Load]), or examines what a playbook's handles refer to ([Parent.Examine]).
// Each record that must be synced goes over the pair and is answered when it is. A child
// that runs a playbook holds the run's lock for life. Every child ends when its pair
// closes.
//
// Of children that resume a run only a few load their scripts at the same time: when
// many continue at once, as after a restart of the daemon, the first is at work soon.
//
// # The wire
//
// A frame is four bytes of length, big endian, a byte for the form of its body, and the
// body: JSON, but for what each step sends. The parent sends first: a [Job]. A child's
// request that expects an answer has a number, which the answer repeats. Records that
// need no sync of their own are buffered in the child until one that does, or until a
// function reaches outside: a child that dies in it has then sent where it was.
//
// # What a child may do
//
// It leads a process group of its own, and has rlimits and, if one was delegated to the
// parent ([Groups]), a cgroup. It inherits nothing but the pair and the lock. It starts
// with no_new_privs and inside a [Jail] of Landlock, which the thread that starts it has
// entered before; it then seals itself: it can start no program and signal no other
// process (seccomp), and no other process can read its memory. The network is limited by
// [moonseal/runtime/grant.Network]. What a kernel does not support is left out.
//
// # Deaths
//
// A child that ends without a result has died: of its memory limit, of a bug, of a signal
// from outside, of its own watchdog because a function hung ([Setup.OnHang]), or killed by
// its parent because it was stopped (SIGSTOP) for long or its run was cancelled. A new
// child resumes the run; after [MaxDeaths] in one step it parks, with the reason of the
// last death.
package worker
