package reload

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// root tells a folder from another that replaces it. Inode numbers are reused soon, so
// the time of birth is compared too if the file system records it.
type root struct {
	device, inode uint64
	born          unix.StatxTimestamp
}

func rootOf(dir string) (root, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return root{}, fmt.Errorf("statx %s: %w", dir, err)
	}
	r := root{device: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		r.born = st.Btime
	}
	return r, nil
}
