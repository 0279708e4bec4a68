// Package once makes calls with signals in the midst of them, in containers of every kind, and looks whether each is
// done once.
package once
