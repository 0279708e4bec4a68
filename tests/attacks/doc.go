// Package attacks attacks the built programs from inside of containers, and from outside as other users: for what an
// attacker gains, and for what harm comes to others. It has only tests; docs/attacks.md describes them.
package attacks
