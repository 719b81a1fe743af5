package bundle

import (
	"strings"
	"testing"
)

func TestHashFilesTellsFilesApart(t *testing.T) {
	text := func(files map[string]string) string {
		var b strings.Builder
		hashFiles(&b, files, []string{"a.lua", "b.lua"})
		return b.String()
	}
	a := text(map[string]string{"a.lua": "1", "b.lua": "2"})
	if a == text(map[string]string{"a.lua": "12", "b.lua": ""}) || a == text(map[string]string{"a.lua": "", "b.lua": "12"}) {
		t.Error("files of the same text in all look the same")
	}
}
