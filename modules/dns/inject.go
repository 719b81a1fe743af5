package dns

import (
	"fmt"
	"reflect"
	"unsafe"

	"moonseal/runtime/problem"
)

// unexported returns a field of the struct at owner, also one of an embedded struct. Two
// libraries keep the client of their vendor's SDK in such a field and have no option for
// it; see the package's doc. A version that has the field no longer, or with another
// type, is an error before any request is sent.
func unexported[T any](owner any, field string) (*T, error) {
	v := reflect.ValueOf(owner).Elem()
	f := v.FieldByName(field)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		return nil, &problem.Error{Kind: problem.Internal, Work: problem.NotDone, Message: fmt.Sprintf("%s has no field %s of type %s", v.Type(), field, reflect.TypeFor[T]())}
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr())), nil //nolint:gosec // G103: the type was compared above
}
