package sandbox_test

import (
	"context"
	"testing"

	"moonseal/runtime/sandbox"
)

func TestSmoke(t *testing.T) {
	s := sandbox.New(context.Background(), sandbox.Options{})
	defer s.Close()
	s.Seal()
	proto, err := sandbox.Compile("x.lua", `
	local x = 1
	local function inc() x = x + 1 end
	pcall(error, "boom")
	inc()
	for a,b in ("k=v, w=z"):gmatch "(%w+)=(%w+)" do x = x .. a .. b end
	return x, #string.rep("a", 10), string.format("%5.2f|%-5s|%05d|%x", 1.5, "ab", 42, 255)
	`)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Call(context.Background(), s.L, s.L.NewFunctionFromProto(proto))
	t.Log(v, err)
	if err != nil || v[0].String() != "2kvwz" {
		t.Fatal("not so")
	}
}
