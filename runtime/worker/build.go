package worker

import (
	"cmp"

	"moonseal/runtime/problem"
)

// otherBuild returns the error of a child whose program is another build than its
// parent's: it might read the run's records differently.
func otherBuild(parent, child string) *problem.Error {
	return &problem.Error{
		Kind: problem.Conflict, Code: problem.OtherBuild, Work: problem.NotDone,
		Message: "the run's process is moonseal " + cmp.Or(child, "of an unknown build") +
			", its parent is moonseal " + cmp.Or(parent, "of another build"),
		Hint: "the program was replaced while it runs: restart the daemon (systemctl restart moonseal)",
	}
}
