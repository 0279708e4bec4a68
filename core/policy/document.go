package policy

import (
	"github.com/BurntSushi/toml"
)

// document is a config being read, and what is wrong with it so far.
type document struct {
	*places
	problems Problems
}

func newDocument(file, text string, meta toml.MetaData) *document {
	d := &document{places: newPlaces(file, text)}
	keys, marks := meta.Keys(), scanKeys(text)
	if len(keys) != len(marks) {
		// Problems without places are better than with wrong ones.
		return d
	}
	d.learn(keys, marks)
	d.reportDropped(meta, marks)
	return d
}

func (d *document) report(p Problem) {
	d.problems = append(d.problems, p)
}

// reportDropped finds what TOML forbids but the decoder accepts and then drops: "a.b = 1" followed by "a = 2".
func (d *document) reportDropped(meta toml.MetaData, marks []mark) {
	parents := map[string]bool{}
	for i, key := range meta.Keys() {
		if marks[i].assigns && parents[key.String()] && !inArray(meta, key) {
			p := d.offsetProblem(marks[i].offset, "was already defined as a table above")
			p.Key = key.String()
			d.report(p)
		}
		for n := 1; n < len(key); n++ {
			parents[key[:n].String()] = true
		}
	}
}

// inArray says whether the key is in an array of tables, where it may appear once for each of them.
func inArray(meta toml.MetaData, key toml.Key) bool {
	for n := 1; n < len(key); n++ {
		if kind := meta.Type(key[:n]...); kind == "Array" || kind == "ArrayHash" {
			return true
		}
	}
	return false
}
