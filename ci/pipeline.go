package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// sourceFlags say what is worked on.
type sourceFlags struct {
	Source string `default:"." placeholder:"DIR" help:"Source tree (default: the current folder)."`
	Config string `placeholder:"FILE" help:"Configuration (default: millrace.yaml or .millrace.yaml in the source)."`
}

// refFlags say what a run is for.
type refFlags struct {
	Event string `placeholder:"EVENT" help:"What started the run: push, pull_request, tag, schedule or manual (default: what the CI host says, else manual)."`
	Ref   string `placeholder:"NAME" help:"Branch, tag or pull request (default: what the CI host says, else git)."`
	SHA   string `name:"sha" placeholder:"SHA" help:"Commit (default: what the CI host says, else git)."`
}

// registryFlag says where images go.
type registryFlag struct {
	Registry string `placeholder:"HOST/PATH" help:"Where images are published (default: millrace.yaml's, else the embedded engine's own registry)."`
}

// registryFlags say where images go, and as whom.
type registryFlags struct {
	registryFlag
	RegistryUser     string `placeholder:"NAME" env:"REGISTRY_USER" help:"User name for the registry."`
	RegistryPassword string `name:"registry-password-env" placeholder:"VARIABLE" default:"REGISTRY_PASSWORD" help:"Environment variable that holds the registry's password, never the password itself (default: REGISTRY_PASSWORD)."`
}

// stepFlags say how one step is run.
type stepFlags struct {
	Out     string        `placeholder:"DIR" help:"Folder for run.json, summaries and every step's reports."`
	DryRun  bool          `xor:"dry" help:"Only show what would happen."`
	Timeout time.Duration `default:"2h" placeholder:"TIME" help:"End the run after this time (default: 2h)."`
	engineFlag
	verboseFlag
}

// shellFlag is for steps that have a container to look into.
type shellFlag struct {
	Interactive bool `xor:"dry" short:"i" help:"After a failure, open a shell in the container of the step that failed."`
}

// freshFlag is for what runs tests.
type freshFlag struct {
	Fresh bool `help:"Run the tests again even if nothing changed since they last ran."`
}

// parallelFlag is for graphs with nodes side by side.
type parallelFlag struct {
	Parallelism int `default:"0" placeholder:"N" help:"Nodes at a time (default: no bound)."`
}

// runFlags say how a whole graph is run.
type runFlags struct {
	stepFlags
	KeepGoing bool `help:"Go on with what a failure does not block, instead of ending the run."`
	shellFlag
	freshFlag
	parallelFlag
}

// verboseFlag shows the engine's own words.
type verboseFlag struct {
	Verbose bool `short:"v" help:"Show what the engine says of its work."`
}

// pipeline is what the commands that run a graph have in common.
type pipeline struct {
	sourceFlags   `group:"Source:"`
	refFlags      `group:"What the run is for:"`
	registryFlags `group:"Where images go:"`
	deliveryFlags `group:"Where it is deployed:"`
	runFlags      `group:"How it runs:"`

	// again are the words of the command that runs only the given node again, if they are not "run NODE".
	again []string
	// asked is what was asked for, where that is not the whole graph, and wanted are the nodes that were asked for by name.
	asked  string
	wanted []string
	// environments are those whose clusters are asked, besides those that nodes of the graph work on.
	environments []string
	// tables says where a training's are.
	tables tablesFlag
	// last is the run that this one takes up, if it does.
	last *lastRun
	// tell is told what a node does.
	tell func(node, text string)
	// show is the display of the run that goes on; nil while none does.
	show *display
}

// prepared is a pipeline whose flags, configuration and place are known. No engine has been asked for anything yet.
type prepared struct {
	*pipeline
	source  string
	project *project.Project
	ref     host.Ref
	started time.Time
	// approval is a signed approval that the run was given; empty if there is none.
	approval []byte
}

func (p *pipeline) prepare(ctx context.Context) (*prepared, error) {
	source, err := p.sourceDir()
	if err != nil {
		return nil, err
	}
	proj, err := p.detect(source)
	if err != nil {
		return nil, err
	}
	ref, err := p.detectRef(ctx, source)
	if err != nil {
		return nil, err
	}
	for _, address := range []string{p.Registry, proj.Publish.Address()} {
		if err := image.CheckRegistry(address); err != nil {
			return nil, usageError{err}
		}
	}
	approval, err := approval("MILLRACE_APPROVAL")
	if err != nil {
		return nil, err
	}
	return &prepared{pipeline: p, source: source, project: proj, ref: ref, started: time.Now(), approval: approval}, nil
}

// sourceDir returns the source tree's absolute path.
func (f sourceFlags) sourceDir() (string, error) {
	info, err := os.Stat(f.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", usagef("the source folder %q does not exist: name the folder of your code with --source", f.Source)
	case err != nil:
		return "", usageError{fmt.Errorf("the source folder %q: %w", f.Source, err)}
	case !info.IsDir():
		return "", usagef("the source %q is a file: name the folder of your code with --source", f.Source)
	}
	return filepath.Abs(f.Source)
}

func (f sourceFlags) detect(source string) (*project.Project, error) {
	var config *project.File
	if f.Config != "" {
		data, err := os.ReadFile(f.Config)
		if err != nil {
			return nil, usageError{f.noConfig(err)}
		}
		config = &project.File{Name: f.Config, Data: data}
	}
	p, err := project.Detect(project.FS(os.DirFS(source)), config)
	var tree *project.TreeError
	if errors.As(err, &tree) {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return p, err
}

// noConfig says what to do about a configuration that can't be read.
func (f sourceFlags) noConfig(err error) error {
	inSource := filepath.Join(f.Source, f.Config)
	info, found := os.Stat(f.Config)
	switch {
	case found == nil && info.IsDir():
		return fmt.Errorf("the configuration %q is a folder: name a file with --config", f.Config)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the configuration: %w", err)
	case !filepath.IsAbs(f.Config) && exists(inSource):
		return fmt.Errorf("the configuration %q does not exist: did you mean --config %s?", f.Config, inSource)
	}
	return fmt.Errorf("the configuration %q does not exist: name a file with --config, or leave it out for the source's own", f.Config)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// detectRef asks the flags, the CI host and git what the run is for.
func (f refFlags) detectRef(ctx context.Context, source string) (host.Ref, error) {
	var payload []byte
	if name := os.Getenv("GITHUB_EVENT_PATH"); name != "" {
		payload, _ = os.ReadFile(name) // a missing payload is an unknown detail, and no error
	}
	facts, err := host.ReadGit(func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", source}, args...)...)
		out, err := cmd.Output()
		return string(out), err
	})
	if err != nil {
		facts = host.GitFacts{}
	}
	return host.Detect(os.Getenv, payload, facts, host.Overrides{Event: f.Event, Ref: f.Ref, SHA: f.SHA})
}

// registry returns where images go, given the engine's own registry, which may be empty.
func (p *prepared) registry(c *dagger.Client, own string) pipelines.Registry {
	r := pipelines.Registry{Address: p.Registry, Username: p.RegistryUser}
	switch {
	case r.Address != "":
	case p.project.Publish.Registry != "":
		r.Address = p.project.Publish.Address()
	case own != "":
		r.Address = own + "/" + p.name()
	}
	r.Password = secret(c, "registry-password", p.RegistryPassword)
	return r
}

// name is what the source tree is called where nobody has named it: after its repository, or its folder.
func (p *prepared) name() string {
	name := filepath.Base(p.source)
	if p.project.Publish.Repository != "" {
		name = p.project.Publish.Repository
	} else if u, err := url.Parse(p.ref.RepositoryURL); err == nil && p.ref.Repository != "" && p.ref.Host != host.Local {
		name = path.Base(u.Path)
	}
	return strings.ToLower(host.SanitizeImageTag(name))
}

// secret returns the secret that the named environment variable holds, or nil when it is not set.
func secret(c *dagger.Client, name, variable string) *dagger.Secret {
	value := os.Getenv(variable)
	if value == "" {
		return nil
	}
	if c == nil {
		return &dagger.Secret{} // a plan only asks whether there is one
	}
	return c.SetSecret(name, value)
}

// inputs gathers what the graphs are made for. c is nil for a plan.
func (p *prepared) inputs(c *dagger.Client, own string) pipelines.Inputs {
	in := pipelines.Inputs{
		Client: c, Project: p.project, Ref: p.ref, Registry: p.registry(c, own), Now: p.started,
		CodecovToken: secret(c, "codecov-token", "CODECOV_TOKEN"), SafetyKey: secret(c, "safety-api-key", "SAFETY_API_KEY"),
	}
	p.notifications(&in)
	in.Delivery = p.delivery(c, own)
	if p.Fresh {
		in.Fresh = p.started.Format(time.RFC3339Nano)
	}
	if c != nil {
		in.Source = p.upload(c)
	}
	return in
}

// upload returns the source tree as the engine sees it: without what no step reads.
func (p *prepared) upload(c *dagger.Client) *dagger.Directory {
	exclude := slices.Clone(pipelines.Ignore)
	if p.Out != "" {
		// Reports of one run must not be the source of the next.
		if out, err := filepath.Abs(p.Out); err == nil {
			if rel, err := filepath.Rel(p.source, out); err == nil && filepath.IsLocal(rel) && rel != "." {
				exclude = append(exclude, filepath.ToSlash(rel))
			}
		}
	}
	return c.Host().Directory(p.source, dagger.HostDirectoryOpts{Exclude: exclude})
}

// execute runs the graph that build makes, shows it, and writes its records.
func (p *pipeline) execute(ctx context.Context, s *streams, build func(pipelines.Inputs) *graph.Graph, options ...graph.RunOption) error {
	if p.Timeout <= 0 {
		return usagef("--timeout %s leaves no time to run in", p.Timeout)
	}
	p.talk(s)
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	if p.KeepGoing {
		options = append(options, graph.KeepGoing())
	}
	options = append(options, graph.Parallelism(p.Parallelism))
	if p.last != nil {
		if err := p.last.open(ctx, s, ready, build(ready.inputs(nil, ""))); err != nil {
			return err
		}
	}
	if p.DryRun {
		return ready.plan(ctx, s, build, "text", options...)
	}
	// Whether the engine has a registry of its own, is not known yet.
	g := build(ready.inputs(nil, engine.DefaultRegistry))
	if err := check(g, options...); err != nil {
		return err
	}
	if err := ready.checkKubeconfigs(g.Plan(options...)); err != nil {
		return err
	}
	return ready.runGraph(ctx, s, build, options...)
}

// check finds mistakes in what was asked of a graph.
func check(g *graph.Graph, options ...graph.RunOption) error {
	if err := g.Check(options...); err != nil {
		return usageError{err}
	}
	if g.LeavesNothing(options...) {
		return usagef("nothing is left to run: --only and --skip leave out every node")
	}
	return nil
}

// plan prints the plan. The engine is only chosen, not started.
func (p *prepared) plan(ctx context.Context, s *streams, build func(pipelines.Inputs) *graph.Graph, format string, options ...graph.RunOption) error {
	chosen, err := engine.Choose(ctx, p.Engine, os.Getenv, s.progress())
	if err != nil {
		return usageError{err}
	}
	own := ""
	if chosen.Kind == engine.EmbeddedKind {
		own = engine.DefaultRegistry
	}
	g := build(p.inputs(nil, own))
	if p.last != nil {
		fmt.Fprintln(s.stderr, "note: if the source has changed since that run, what comes before these steps is run again too")
		if options, err = p.last.takeUp(g, true, options); err != nil {
			return err
		}
	}
	if err := check(g, options...); err != nil {
		return err
	}
	plan := g.Plan(options...)
	if err := p.checkKubeconfigs(plan); err != nil {
		return err
	}
	var text string
	switch format {
	case "json":
		data, err := plan.JSON()
		if err != nil {
			return err
		}
		text = string(data)
	case "mermaid":
		text = plan.Mermaid()
	case "svg":
		text = plan.SVG()
	default:
		text = plan.Text()
	}
	_, err = fmt.Fprintln(s.stdout, strings.TrimRight(text, "\n"))
	return err
}

func (p *prepared) runGraph(ctx context.Context, s *streams, build func(pipelines.Inputs) *graph.Graph, options ...graph.RunOption) error {
	for _, w := range p.project.Warnings {
		fmt.Fprintln(s.stderr, "warning:", w)
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	chosen, err := engine.Choose(ctx, p.Engine, os.Getenv, s.progress())
	if err != nil {
		return usageError{err}
	}
	if p.Interactive && !canOpen(chosen) {
		return usagef("--interactive needs a terminal: leave it out, and open a shell by hand after a failure, with: %s", p.command("shell", "NODE"))
	}
	if p.Out != "" {
		if err := os.MkdirAll(p.Out, 0o755); err != nil {
			return usageError{fmt.Errorf("make the folder for reports: %w", err)}
		}
	}
	log, err := p.engineLog(s)
	if err != nil {
		return err
	}
	defer log.Close()
	c, err := log.connect(ctx, chosen)
	if err != nil {
		p.neverBegan(ctx, s, chosen, build(p.inputs(nil, chosen.Registry)).Plan(options...), err)
		return err
	}
	defer engine.HangUp(c)

	in := p.inputs(c, chosen.Registry)
	fingerprint := p.fingerprint(ctx, in.Source)
	g := build(in)
	if p.last != nil {
		if options, err = p.last.takeUp(g, p.last.same(s, fingerprint(ctx)), options); err != nil {
			return err
		}
	}
	plan := g.Plan(options...)
	chosen.Prefetch(ctx, pipelines.References(p.project, func(node string) bool {
		return slices.ContainsFunc(plan.Nodes, func(n graph.PlanNode) bool { return n.Name == node && n.Skip == "" })
	}))
	p.show = newDisplay(s, plan, chosen)
	result := g.Run(ctx, append(options, graph.Observe(func(e graph.Event) {
		// What is no verdict is not shown as one: it is said as a mistake, below.
		if len(plan.Nodes) > 1 || pipelines.Mistaken(&graph.Result{Nodes: []graph.Record{e.Record}}) == nil {
			p.show.observe(e)
		}
	}))...)
	p.show.close()
	if err := pipelines.Mistaken(result); err != nil {
		return err // as of any mistake in a command line, nothing is recorded, and to run it again would not help
	}

	record := pipelines.NewRun(result, p.ref, report.Engine{Kind: string(chosen.Kind), Version: chosen.Version})
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // it has been answered long ago, or never will
	record.Source = fingerprint(patience)
	stop()
	skipped := p.tally(&record)
	leave(ctx, s, p.Out, record, result)
	keep(chosen, p.source, record)
	fmt.Fprint(s.stdout, report.Text(p.shown(record), s.width()))
	if p.Out != "" {
		fmt.Fprintf(s.stdout, "reports: %s\n", filepath.Join(p.Out, "index.html"))
	}
	if result.Verdict.ExitCode() == 0 {
		p.saySkipped(s, in, skipped)
		return nil
	}
	p.explainImages(ctx, s, chosen.Registry)
	p.mend(s, record)
	p.lookInside(whole, s, chosen, in, result)
	return verdictError(result.Verdict)
}

// neverBegan tells of a run whose engine could not be reached, and records it: whoever reads the record must not find the verdict of
// an earlier run. One that --from-failed takes up stays, to be taken up again.
func (p *prepared) neverBegan(ctx context.Context, s *streams, chosen *engine.Engine, plan graph.Plan, err error) {
	result := &graph.Result{Graph: plan.Graph, Verdict: graph.Errored, Started: p.started, Duration: time.Since(p.started), Err: err}
	if ctx.Err() != nil {
		result.Verdict = graph.Cancelled
	}
	for _, n := range plan.Nodes {
		result.Nodes = append(result.Nodes, graph.Record{Name: n.Name, Verdict: graph.Skipped, Reason: cmp.Or(n.Skip, "the run never began")})
	}
	record := pipelines.NewRun(result, p.ref, report.Engine{Kind: string(chosen.Kind), Version: chosen.Version})
	told := slices.ContainsFunc(plan.Nodes, func(n graph.PlanNode) bool { return n.Name == "notify" && n.Skip == "" })
	if told && ctx.Err() == nil {
		p.tellBroken(ctx, s, record)
	}
	out := p.Out
	if p.last != nil {
		out = ""
	}
	leave(ctx, s, out, record, result)
}

// shown is what of a record people want to see on a terminal: without the nodes that nobody asked for, and with the folders
// of reports as they are found from here, if there are any.
func (p *prepared) shown(record report.Run) report.Run {
	record.Nodes = slices.DeleteFunc(slices.Clone(record.Nodes), func(n report.Node) bool { return n.Reason == graph.NotSelected })
	for i, n := range record.Nodes {
		switch {
		case p.Out == "":
			record.Nodes[i].Reports = ""
		case n.Reports != "":
			record.Nodes[i].Reports = filepath.Join(p.Out, filepath.FromSlash(n.Reports))
		}
	}
	return record
}

// ask notes what was asked for, and the nodes that it comes down to.
func (p *pipeline) ask(asked string, nodes ...string) { p.asked, p.wanted = asked, nodes }

// tally makes of the record one of what was asked for, and returns the nodes that were asked for and skipped. A run that has
// skipped all of them was skipped, whatever they needed has passed.
func (p *pipeline) tally(record *report.Run) (skipped []report.Node) {
	record.Asked = p.asked
	found := 0
	for _, n := range record.Nodes {
		if !slices.Contains(p.wanted, n.Name) {
			continue
		}
		if found++; n.Verdict == graph.Skipped {
			skipped = append(skipped, n)
		}
	}
	if record.Verdict == graph.Passed && found > 0 && len(skipped) == found {
		record.Verdict = graph.Skipped
	}
	return skipped
}

// saySkipped ends a run with what was asked for and skipped, and why, so that nobody takes it for done.
func (p *prepared) saySkipped(s *streams, in pipelines.Inputs, skipped []report.Node) {
	for i, n := range skipped {
		if i == 0 {
			fmt.Fprintln(s.stdout)
		}
		line := fmt.Sprintf("SKIPPED, although asked for: %s: %s", n.Name, n.Reason)
		if anyway := p.anyway(in, n.Name); anyway != "" {
			line += "; whatever the branch: " + anyway
		}
		fmt.Fprintln(s.stdout, line)
	}
}

// anyway is the command that does what a node of an environment does, whatever the run is for; empty if there is none.
func (p *prepared) anyway(in pipelines.Inputs, node string) string {
	if in.Ref.IsPullRequest() || in.Ref.Fork || len(p.again) > 0 {
		return ""
	}
	for _, e := range in.Project.Environments {
		if _, given := in.Delivery.Clusters[e.Name]; !given {
			continue
		}
		switch node {
		case "deploy-" + e.Name:
			return p.command("deploy", e.Name)
		case "load-test-" + e.Name:
			return p.command("load-test", e.Name)
		}
	}
	return ""
}

// explainImages says which images could not be made in this run: to the steps, a pull has failed, and that is all they know.
func (p *prepared) explainImages(ctx context.Context, s *streams, registry string) {
	if registry == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	all, err := engine.StandIns(ctx, registry)
	if err != nil {
		return // the engine is gone, and that has been said
	}
	for _, image := range all {
		if image.Error != "" && !image.Started.Before(p.started.UTC()) {
			fmt.Fprintf(s.stdout, "\n%s\n", image.Error)
		}
	}
}

// engineLog is where the engine's own progress goes: the file engine.log of the reports, or memory; and the terminal if asked.
type engineLog struct {
	io.Writer
	memory *bytes.Buffer
	file   *os.File
}

func (p *prepared) engineLog(s *streams) (*engineLog, error) {
	log := &engineLog{memory: &bytes.Buffer{}}
	log.Writer = log.memory
	if p.Out != "" {
		file, err := os.Create(filepath.Join(p.Out, "engine.log"))
		if err != nil {
			return nil, usageError{fmt.Errorf("make the engine's log: %w", err)}
		}
		log.file, log.Writer = file, io.MultiWriter(file, limited{log.memory})
	} else {
		log.Writer = limited{log.memory}
	}
	if p.Verbose {
		log.Writer = io.MultiWriter(log.Writer, s.stderr)
	}
	return log, nil
}

// limited keeps the first megabyte, which is enough to say why a connection failed.
type limited struct{ *bytes.Buffer }

func (l limited) Write(b []byte) (int, error) {
	if l.Len() < 1<<20 {
		l.Buffer.Write(b)
	}
	return len(b), nil
}

// connect opens a session whose progress goes to the log. Its error ends with the last that the engine had to say.
func (l *engineLog) connect(ctx context.Context, chosen *engine.Engine) (*dagger.Client, error) {
	c, err := chosen.Connect(ctx, l)
	if err != nil && l.memory.Len() > 0 {
		lines := strings.Split(strings.TrimSpace(l.memory.String()), "\n")
		return nil, fmt.Errorf("%w\n%s", err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return c, err
}

func (l *engineLog) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
