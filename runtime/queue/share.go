package queue

// load is how many jobs of a tenant are due, how many active, and how many pick
// has just picked.
type load struct{ due, active, picked int }

// pick returns the jobs that get the free slots: in their order those whose
// tenants are below their share, then, if slots are left, the others.
func (x *index) pick(h holders, slots int) []*entry {
	free := slots - len(x.active)
	if free <= 0 || len(x.due) == 0 {
		return nil
	}
	share := x.share(slots)
	var picked, above []*entry
	for e, lock := range x.candidates(h) {
		switch {
		case lock != "":
		case e.tenant.active+e.tenant.picked < share:
			picked = append(picked, e)
			e.tenant.picked++
		case len(above) < free:
			above = append(above, e)
		}
		if len(picked) == free {
			break
		}
	}
	for _, e := range picked {
		e.tenant.picked = 0
	}
	return append(picked, above[:min(len(above), free-len(picked))]...)
}

// share returns how many slots a tenant gets while others wait: half, or all if
// only one tenant has jobs that are due.
func (x *index) share(slots int) int {
	tenants := 0
	for _, l := range x.tenants {
		if l.due > 0 {
			tenants++
		}
	}
	if tenants < 2 {
		return slots
	}
	return max(1, slots/2)
}
