package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/spf13/cobra"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "policy",
		Short:   "What each container gets of the config",
		Example: "  intercede policy explain 3f2a",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return cli.Usagef("a subcommand is missing\nTry '%s --help'", c.CommandPath())
		},
	}
	c.AddCommand(policyExplainCommand())
	return c
}

// described are the flags that describe a container that need not exist.
type described struct {
	description                 policy.Description
	annotations, labels, cgroup []string
	peerUID                     string
	given                       bool // one of the flags
}

var describedFlags = []string{"id", "runtime", "name", "image", "annotation", "label", "peer-uid", "cgroup", "cookie"}

func policyExplainCommand() *cobra.Command {
	var flags cli.ConfigFlags
	var asJSON bool
	var d described
	c := &cobra.Command{
		Use:   "explain {ID | --id ID --annotation K=V ...}",
		Short: "Show a container's plugins and settings, and where it has each from",
		Long: `Explain shows which rules of the config match a container, its plugins and settings, and for each the line of the
config or the annotation that it comes from.

With ID it asks the running daemon, on the admin socket that the config names, for the container with this id, or those
whose ids begin so: what it shows is what the container got when it was attached. With flags that describe a container
it reads the config, and says what such a container would get. A plugin whose settings the annotations change is started,
and asked whether it takes them.`,
		Example: "  intercede policy explain 3f2a\n" +
			"  intercede policy explain --runtime oci --id x --annotation security.syscalls.intercept.mknod=true",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d.given = slices.ContainsFunc(describedFlags, c.Flags().Changed)
			policies, err := explain(c.Context(), &flags, &d, args)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(policies)
			}
			return printPolicies(c.OutOrStdout(), policies)
		},
	}
	flags.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	d.register(c)
	return c
}

func (d *described) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.description.ID, "id", "", "`ID` of the described container")
	f.StringVar(&d.description.Runtime, "runtime", config.RuntimeOCI, "`KIND` of what delivers its listener: oci, lxc or run")
	f.StringVar(&d.description.Name, "name", "", "its `NAME`, instead of what its annotations say")
	f.StringVar(&d.description.Image, "image", "", "`NAME` of its image, likewise")
	f.StringArrayVar(&d.annotations, "annotation", nil, "an annotation `K=V` of it, may be repeated")
	f.StringArrayVar(&d.labels, "label", nil, "a label `K=V` of it, may be repeated")
	f.StringVar(&d.peerUID, "peer-uid", "", "`UID` of the runtime's process")
	f.StringArrayVar(&d.cgroup, "cgroup", nil, "`PATH` of its cgroup, may be repeated")
	f.StringVar(&d.description.Cookie, "cookie", "", "its lxc.seccomp.notify.cookie")
}

// explain gives the policies of attached containers, or that of the described one.
func explain(ctx context.Context, flags *cli.ConfigFlags, d *described, args []string) ([]broker.ContainerPolicy, error) {
	switch {
	case len(args) == 1 && d.given:
		return nil, cli.Usagef("ID names a container that is there, the flags describe one: give either")
	case len(args) == 1:
		return explainAttached(ctx, flags, args[0])
	case d.given:
		return d.explain(ctx, flags)
	default:
		return nil, cli.Usagef("give the ID of a container, or flags that describe one, such as --id and --annotation")
	}
}

func explainAttached(ctx context.Context, flags *cli.ConfigFlags, id string) ([]broker.ContainerPolicy, error) {
	read, err := flags.Read()
	if err != nil {
		return nil, err
	}
	policies, err := control.GetPolicies(ctx, read.Broker.Control, id)
	if err == nil && len(policies) == 0 {
		err = fmt.Errorf("the daemon has no container %q: `intercede status` lists them", id)
	}
	return policies, err
}

func (d *described) explain(ctx context.Context, flags *cli.ConfigFlags) ([]broker.ContainerPolicy, error) {
	description, err := d.complete()
	if err != nil {
		return nil, err
	}
	setup, err := flags.Load(ctx)
	if err != nil {
		return nil, err
	}
	effective, err := setup.Explain(ctx, description)
	if err != nil {
		return nil, err
	}
	return []broker.ContainerPolicy{{Effective: effective}}, nil
}

// complete adds what the flags say as text to the description.
func (d *described) complete() (c policy.Description, err error) {
	c = d.description
	c.Cgroups = d.cgroup
	if c.Annotations, err = parsePairs("annotation", d.annotations); err != nil {
		return c, err
	}
	if len(d.labels) > 0 {
		if c.Labels, err = parsePairs("label", d.labels); err != nil {
			return c, err
		}
	}
	if d.peerUID != "" {
		id, err := strconv.ParseUint(d.peerUID, 10, 32)
		if err != nil || id == math.MaxUint32 {
			return c, cli.Usagef("--peer-uid %q: want a user id", d.peerUID)
		}
		uid := uint32(id)
		c.PeerUID = &uid
	}
	return c, nil
}

func printPolicies(out io.Writer, policies []broker.ContainerPolicy) error {
	for i, p := range policies {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := printPolicy(out, p); err != nil {
			return err
		}
	}
	return nil
}

func printPolicy(out io.Writer, p broker.ContainerPolicy) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	printDescription(w, p.Description)
	if p.Privileged {
		served := cmp.Or(strings.Join(p.Served, ", "), "none")
		fmt.Fprintf(w, "\nThe container has no user namespace of its own. Plugins that serve it: %s. All other calls are left to the kernel.\n", served)
	}
	printPolicyTables(w, p.Effective)
	return w.Flush()
}

// printPolicyTables prints the rules, and each setting with where it is from.
func printPolicyTables(w io.Writer, p *policy.Effective) {
	if len(p.Rules) > 0 {
		fmt.Fprintln(w, "\nRULE\tMATCHES")
	}
	for _, r := range p.Rules {
		fmt.Fprintf(w, "%s:%d\t%s\n", r.File, r.Line, verdictOf(r))
	}
	fmt.Fprintln(w, "\nPLUGIN\tSETTING\tVALUE\tFROM")
	for _, plugin := range p.Plugins {
		fmt.Fprintf(w, "%s\tenabled\t%t\t%s\n", plugin.Name, plugin.Enabled, plugin.Origin)
		if !plugin.Enabled {
			continue
		}
		for _, s := range plugin.Settings {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", plugin.Name, s.Key, printable(string(s.Value)), s.Origin)
		}
	}
	if len(p.Ignored) > 0 {
		fmt.Fprintln(w, "\nIGNORED ANNOTATION\tWHY")
	}
	for _, a := range p.Ignored {
		fmt.Fprintf(w, "%s\t%s\n", a.Name, printable(a.Reason))
	}
}

// printDescription shows what rules can match but annotations and labels, which may be long and many: --json has them.
func printDescription(w io.Writer, c policy.Description) {
	peer := ""
	if c.PeerUID != nil {
		peer = strconv.FormatUint(uint64(*c.PeerUID), 10)
	}
	for _, line := range [][2]string{
		{"id", c.ID}, {"runtime", c.Runtime}, {"name", c.Name}, {"image", c.Image}, {"peer_uid", peer},
		{"cgroup", strings.Join(c.Cgroups, " ")}, {"cookie", c.Cookie},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], cmp.Or(printable(line[1]), "-"))
	}
}

// printable escapes what is not to reach a terminal: much of an explanation is in the words of the container's maker.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func verdictOf(r policy.RuleOutcome) string {
	if r.Matches {
		return "yes"
	}
	return "no: " + printable(r.Why)
}
