package stable

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	project = "github.com/intercede/intercede/"
	module  = project + "sdk"
)

// exported is a line for each thing that a package of the SDK exports: without values of constants and names of
// parameters, since no program fails to compile when they change. All methods of an interface are one line: one more
// leaves those that implement it behind.
func exported(t *testing.T) (lines []string) {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", module+"/...")
	list.Stderr = os.Stderr
	output, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(output)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	read := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	for path := range files {
		if path != module && !strings.HasPrefix(path, module+"/") || strings.Contains(path+"/", "/internal/") {
			continue
		}
		pkg, err := read.Import(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, name := range pkg.Scope().Names() {
			if object := pkg.Scope().Lookup(name); object.Exported() {
				for _, line := range describe(object) {
					lines = append(lines, strings.ReplaceAll(path+": "+line, project, ""))
				}
			}
		}
	}
	return lines
}

func describe(object types.Object) []string {
	name := object.Name()
	switch o := object.(type) {
	case *types.Const:
		return []string{fmt.Sprintf("const %s %s", name, text(o.Type()))}
	case *types.Var:
		return []string{fmt.Sprintf("var %s %s", name, text(o.Type()))}
	case *types.Func:
		return []string{"func " + name + signature(o.Signature())}
	case *types.TypeName:
		if o.IsAlias() {
			return []string{fmt.Sprintf("type %s = %s", name, text(types.Unalias(o.Type())))}
		}
		return describeType(name, o.Type().(*types.Named))
	}
	return nil
}

func describeType(name string, t *types.Named) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	kind := text(t.Underlying())
	if s, ok := t.Underlying().(*types.Struct); ok {
		kind = "struct"
		for f := range s.Fields() {
			if f.Exported() {
				add("type %s struct: %s %s", name, f.Name(), text(f.Type()))
			}
		}
	}
	add("type %s%s %s", name, parameters(t.TypeParams()), kind)
	if types.Comparable(t) {
		add("type %s is comparable", name)
	}
	if types.IsInterface(t) {
		return lines
	}
	for m := range types.NewMethodSet(types.NewPointer(t)).Methods() {
		if m.Obj().Exported() {
			receiver := "*" + name
			if types.NewMethodSet(t).Lookup(nil, m.Obj().Name()) != nil {
				receiver = name
			}
			add("method (%s) %s%s", receiver, m.Obj().Name(), signature(m.Obj().(*types.Func).Signature()))
		}
	}
	return lines
}

// text is a type without names of parameters.
func text(t types.Type) string {
	switch t := t.(type) {
	case *types.Pointer:
		return "*" + text(t.Elem())
	case *types.Slice:
		return "[]" + text(t.Elem())
	case *types.Map:
		return fmt.Sprintf("map[%s]%s", text(t.Key()), text(t.Elem()))
	case *types.Signature:
		return "func" + signature(t)
	case *types.Interface:
		var methods []string
		for m := range t.Methods() {
			methods = append(methods, m.Name()+signature(m.Signature()))
		}
		return fmt.Sprintf("interface{%s}", strings.Join(methods, "; "))
	}
	return types.TypeString(t, nil)
}

func signature(s *types.Signature) string {
	in := tuple(s.Params())
	if s.Variadic() {
		in = in[:strings.LastIndex(in, "[]")] + "..." + in[strings.LastIndex(in, "[]")+2:]
	}
	line := fmt.Sprintf("%s(%s)", parameters(s.TypeParams()), in)
	switch out := tuple(s.Results()); s.Results().Len() {
	case 0:
		return line
	case 1:
		return line + " " + out
	default:
		return fmt.Sprintf("%s (%s)", line, out)
	}
}

func tuple(t *types.Tuple) string {
	var all []string
	for v := range t.Variables() {
		all = append(all, text(v.Type()))
	}
	return strings.Join(all, ", ")
}

func parameters(list *types.TypeParamList) string {
	if list.Len() == 0 {
		return ""
	}
	var all []string
	for p := range list.TypeParams() {
		all = append(all, p.Obj().Name()+" "+text(p.Constraint()))
	}
	return "[" + strings.Join(all, ", ") + "]"
}
