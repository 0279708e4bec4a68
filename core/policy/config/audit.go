package config

// Audit is the [audit] table, with its defaults filled in.
type Audit struct {
	Sink string // AuditNone or another of these
	Path string // absolute path of the file
	Rate int    // events a second of one kind of one container
}

// The values of [Audit.Sink].
const (
	AuditNone     = "none"
	AuditFile     = "file"
	AuditJournald = "journald"
	AuditSyslog   = "syslog"
)

// maxAuditRate bounds rate: what a disk takes of it is not the container's to say.
const maxAuditRate = 10_000

// readAudit reads [audit]; a relative path is relative to the folder.
func readAudit(t *table, folder string) Audit {
	a := Audit{Sink: AuditNone, Path: "/var/log/intercede/audit.log", Rate: 10}
	t.oneOf("sink", &a.Sink, AuditNone, AuditFile, AuditJournald, AuditSyslog)
	t.text("path", &a.Path, checkPath)
	t.int("rate", &a.Rate, 1, maxAuditRate)
	t.finish()
	a.Path = from(folder, a.Path)
	return a
}
