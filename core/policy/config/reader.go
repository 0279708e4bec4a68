package config

import (
	"github.com/BurntSushi/toml"
)

// reader is a config being read, and what is wrong with it so far.
type reader struct {
	*places
	problems Problems
}

func newReader(file, text string, meta toml.MetaData) *reader {
	r := &reader{places: newPlaces(file, text)}
	keys, marks := meta.Keys(), scanKeys(text)
	if len(keys) != len(marks) {
		// Problems without places are better than with wrong ones.
		return r
	}
	r.learn(keys, marks)
	r.reportDropped(meta, marks)
	return r
}

func (r *reader) report(p Problem) {
	r.problems = append(r.problems, p)
}

// reportDropped finds what TOML forbids but the decoder accepts and then drops: "a.b = 1" followed by "a = 2".
func (r *reader) reportDropped(meta toml.MetaData, marks []mark) {
	parents := map[string]bool{}
	for i, key := range meta.Keys() {
		if marks[i].assigns && parents[key.String()] && !inArray(meta, key) {
			p := r.offsetProblem(marks[i].offset, "was already defined as a table above")
			p.Key = key.String()
			r.report(p)
		}
		for n := 1; n < len(key); n++ {
			parents[key[:n].String()] = true
		}
	}
}

// inArray reports whether the key is in an array of tables, where it may appear once for each of them.
func inArray(meta toml.MetaData, key Key) bool {
	for n := 1; n < len(key); n++ {
		if kind := meta.Type(key[:n]...); kind == "Array" || kind == "ArrayHash" {
			return true
		}
	}
	return false
}
