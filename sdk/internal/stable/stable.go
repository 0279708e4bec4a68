// Package stable has what plugins and agents of others rest on as of the last release, for a test that nothing of it is
// taken away: api.txt, what the packages of the SDK export, and protocol.txt, plugin.proto and the handshake.
package stable
