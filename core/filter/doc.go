// Package filter says what to notify: it turns the plugins' manifests into the broker's routes, into the seccomp
// program of `intercede run` and into the profile that makes an OCI runtime notify.
//
// Manifests are expected to have passed wire.CheckManifest.
package filter
