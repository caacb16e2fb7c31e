package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// deliveryFlags say how environments are deployed to.
type deliveryFlags struct {
	Ephemeral bool `help:"Deploy to a throw-away cluster that this run starts, instead of the environments' own."`
	waitFlag
}

// waitFlag says for how long an environment may be somebody else's.
type waitFlag struct {
	Wait time.Duration `default:"10m" placeholder:"TIME" help:"How long another run that deploys to the environment is waited for; 0 is not at all (default: 10m)."`
}

// delivery gathers what the nodes that deploy have to know. c is nil for a plan.
func (p *prepared) delivery(c *dagger.Client, own string) pipelines.Delivery {
	d := pipelines.Delivery{Clusters: map[string]kube.Cluster{}, Holder: holder(p.ref), Wait: p.noWait(), Progress: p.tell}
	d.Approval, d.HostApproved = p.approval, gitHubApproved(http.DefaultClient, os.Getenv)
	for _, e := range p.project.Environments {
		if cluster, given := clusterIn(c, "kubeconfig-"+e.Name, e.Variable()); given {
			d.Clusters[e.Name] = cluster
		}
	}
	if p.Ephemeral {
		d.Ephemeral = func(ctx context.Context) (kube.Cluster, error) { return throwAway(ctx, c, own) }
	}
	return d
}

// clusterIn returns the cluster whose kubeconfig an environment variable holds, if it does. Without a client it is empty: a plan
// only asks whether there is one.
func clusterIn(c *dagger.Client, secret, variable string) (cluster kube.Cluster, given bool) {
	value := os.Getenv(variable)
	if value == "" || c == nil {
		return kube.Cluster{}, value != ""
	}
	kubeconfig, _ := kubeconfigIn(value)
	return kube.HostCluster(c, secret, kubeconfig), true
}

// kubeconfigIn returns the kubeconfig that a variable holds, or whose file it names, and the file's name.
func kubeconfigIn(value string) (kubeconfig, file string) {
	if strings.ContainsAny(value, "\n{") || len(value) > 1024 {
		return value, ""
	}
	if text, err := os.ReadFile(value); err == nil {
		return string(text), value
	}
	return value, ""
}

// checkKubeconfig says what is wrong with what a variable holds that is to hold a kubeconfig. One that is not set is fine. The value
// itself is only shown where it is a file's name.
func checkKubeconfig(variable string) error {
	value := os.Getenv(variable)
	if value == "" {
		return nil
	}
	kubeconfig, file := kubeconfigIn(value)
	err := kube.CheckKubeconfig(kubeconfig)
	switch {
	case err == nil:
		return nil
	case file != "":
		return usagef("the file %s, which %s names, is no kubeconfig: %w", file, variable, err)
	case namesFile(value):
		return usagef("the file %s, which %s names, can't be read: give the name of a kubeconfig that is there, or its text", value, variable)
	}
	return usagef("%s holds no kubeconfig: %w: set it to a kubeconfig's text, raw or in base64, or to the name of its file", variable, err)
}

// namesFile reports whether a value was meant as a file's name, whether or not there is one.
func namesFile(value string) bool {
	rooted := strings.HasPrefix(value, "/") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "../") || strings.HasPrefix(value, "~/")
	return rooted && len(value) <= 256 && !strings.ContainsAny(value, "\n{")
}

// checkKubeconfigs checks those of the environments that a run by that plan asks.
func (p *prepared) checkKubeconfigs(plan graph.Plan) error {
	if p.Ephemeral {
		return nil // their own clusters are not asked
	}
	asked := pipelines.EnvironmentsOf(p.project, plan)
	for _, name := range p.environments {
		if e, found := p.project.Environment(name); found {
			asked = append(asked, e)
		}
	}
	for _, e := range asked {
		if err := checkKubeconfig(e.Variable()); err != nil {
			return err
		}
	}
	return nil
}

// throwAway starts a cluster for this run alone. It takes images from the embedded engine's own registry, if that is where they are.
func throwAway(ctx context.Context, c *dagger.Client, own string) (kube.Cluster, error) {
	e := kube.Ephemeral{}
	if own != "" {
		registry, err := kube.HostRegistry(c, own)
		if err != nil {
			return kube.Cluster{}, err
		}
		e.Registry = registry
	}
	running, err := e.Start(ctx, c)
	if err != nil {
		return kube.Cluster{}, err
	}
	return running.Cluster, nil // it ends with the session
}

// holder names this run to people who wait for it.
func holder(ref host.Ref) string {
	if ref.Host != host.Local && ref.Host != "" {
		if ref.RunURL != "" {
			return ref.RunURL
		}
		return string(ref.Host)
	}
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	machine, err := os.Hostname()
	if err != nil {
		machine = "an unknown machine"
	}
	return fmt.Sprintf("%s on %s (process %d)", name, machine, os.Getpid())
}

// noWait turns a wait of the command line into one of the library, to which 0 is the default.
func (f waitFlag) noWait() time.Duration {
	if f.Wait <= 0 {
		return -1
	}
	return f.Wait
}

// talk has what the nodes do told: in the display of the run, and where there is none, in the log.
func (p *pipeline) talk(s *streams) {
	p.tell = func(node, text string) {
		switch {
		case p.show != nil:
			p.show.say(node, text)
		case terminalWidth(s.stderr) == 0:
			fmt.Fprintf(s.stderr, "%s: %s\n", node, text)
		}
	}
}

// environmentArg names the environment that a command is about.
type environmentArg struct {
	Environment string `arg:"" help:"Environment, as millrace.yaml names it."`
}

// environmentStep is what the commands that run one step in an environment's cluster have in common.
type environmentStep struct {
	environmentArg
	sourceFlags `group:"Source:"`
	stepFlags   `group:"How it runs:"`
}

func (e environmentStep) pipeline() *pipeline {
	return &pipeline{sourceFlags: e.sourceFlags, runFlags: runFlags{stepFlags: e.stepFlags}}
}

// environmentLook is what the commands that only look at an environment have in common.
type environmentLook struct {
	environmentArg
	JSON        bool `name:"json" help:"Print JSON."`
	sourceFlags `group:"Source:"`
	lookFlags   `group:"How it runs:"`
}

func (e environmentLook) pipeline() *pipeline {
	return &pipeline{sourceFlags: e.sourceFlags, runFlags: e.runFlags(), environments: []string{e.Environment}}
}

// lookFlags say how something is looked at with an engine.
type lookFlags struct {
	Out string `placeholder:"DIR" help:"Folder for the engine's log, engine.log."`
	engineFlag
	verboseFlag
}

func (f lookFlags) runFlags() runFlags {
	return runFlags{stepFlags: stepFlags{Out: f.Out, engineFlag: f.engineFlag, verboseFlag: f.verboseFlag}}
}

type deployCmd struct {
	environmentArg
	sourceFlags   `group:"Source:"`
	refFlags      `group:"What the run is for:"`
	registryFlags `group:"Where images go:"`
	deliveryFlags `group:"Where it is deployed:"`
	stepFlags     `group:"How it runs:"`
	shellFlag     `group:"How it runs:"`
}

func (c *deployCmd) Run(ctx context.Context, s *streams) error {
	p := &pipeline{
		sourceFlags: c.sourceFlags, refFlags: c.refFlags, registryFlags: c.registryFlags, deliveryFlags: c.deliveryFlags,
		runFlags: runFlags{stepFlags: c.stepFlags, shellFlag: c.shellFlag}, again: []string{"deploy", c.Environment},
	}
	p.ask("deploy "+c.Environment, "deploy-"+c.Environment)
	if c.DryRun {
		p.environments = []string{c.Environment}
		return p.look(ctx, s, func(ctx context.Context, in pipelines.Inputs) error {
			rollout, err := pipelines.DeployDryRun(ctx, in, c.Environment)
			if err != nil {
				return err
			}
			if rollout.Output != "" {
				fmt.Fprintln(s.stderr, rollout.Output)
			}
			if code := rollout.Verdict.ExitCode(); code != 0 {
				fmt.Fprintln(s.stdout, rollout.Reason)
				for _, f := range rollout.Findings {
					fmt.Fprintln(s.stdout, f)
				}
				return verdictError(rollout.Verdict)
			}
			_, err = fmt.Fprint(s.stdout, rollout.Diff)
			return err
		})
	}
	var wrong error
	build := func(in pipelines.Inputs) *graph.Graph {
		in, wrong = pipelines.DeployAnyway(in, c.Environment)
		return cicd(in)
	}
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	if build(ready.inputs(nil, "")); wrong != nil {
		return wrong
	}
	return p.execute(ctx, s, build, graph.Only("deploy-"+c.Environment))
}

type rollbackCmd struct {
	environmentStep
	ToRevision int `placeholder:"N" help:"Revision to go back to (default: the one before the present)."`
	waitFlag   `group:"How it runs:"`
}

func (c *rollbackCmd) Run(ctx context.Context, s *streams) error {
	p := c.pipeline()
	p.waitFlag = c.waitFlag
	p.again = []string{"rollback", c.Environment}
	p.ask("rollback "+c.Environment, "rollback-"+c.Environment)
	if c.ToRevision > 0 {
		p.again = append(p.again, "--to-revision", strconv.Itoa(c.ToRevision))
	}
	return p.one(ctx, s, func(in pipelines.Inputs) (*graph.Graph, error) {
		return pipelines.Rollback(in, c.Environment, c.ToRevision)
	})
}

type promoteCmd struct {
	From        string `required:"" placeholder:"ENV" help:"Environment whose images are taken, by digest."`
	To          string `required:"" placeholder:"ENV" help:"Environment to deploy to."`
	sourceFlags `group:"Source:"`
	refFlags    `group:"What the run is for:"`
	stepFlags   `group:"How it runs:"`
	waitFlag    `group:"How it runs:"`
}

func (c *promoteCmd) Run(ctx context.Context, s *streams) error {
	p := &pipeline{
		sourceFlags: c.sourceFlags, refFlags: c.refFlags, deliveryFlags: deliveryFlags{waitFlag: c.waitFlag},
		runFlags: runFlags{stepFlags: c.stepFlags}, again: []string{"promote", "--from", c.From, "--to", c.To}, environments: []string{c.From},
	}
	p.ask(fmt.Sprintf("promote %s to %s", c.From, c.To), "promote-"+c.To)
	return p.one(ctx, s, func(in pipelines.Inputs) (*graph.Graph, error) { return pipelines.Promote(in, c.From, c.To) })
}

type historyCmd struct{ environmentLook }

func (c *historyCmd) Run(ctx context.Context, s *streams) error {
	return c.pipeline().look(ctx, s, func(ctx context.Context, in pipelines.Inputs) error {
		at, err := pipelines.EnvironmentOf(ctx, in, c.Environment)
		if err != nil {
			return err
		}
		all, err := at.History(ctx, in.Client)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(s, all)
		}
		_, err = fmt.Fprint(s.stdout, kube.HistoryText(all))
		return err
	})
}

type statusCmd struct{ environmentLook }

func (c *statusCmd) Run(ctx context.Context, s *streams) error {
	p := c.pipeline()
	return p.look(ctx, s, func(ctx context.Context, in pipelines.Inputs) error {
		at, err := pipelines.EnvironmentOf(ctx, in, c.Environment)
		if err != nil {
			return err
		}
		state, err := at.Status(ctx, in.Client)
		if err != nil {
			return err
		}
		state.Revert = p.command("rollback", c.Environment)
		if c.JSON {
			return printJSON(s, state)
		}
		_, err = fmt.Fprint(s.stdout, state.Text())
		return err
	})
}

func printJSON(s *streams, v any) error {
	out := json.NewEncoder(s.stdout)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// look runs something that is no graph with an engine.
func (p *pipeline) look(ctx context.Context, s *streams, do func(context.Context, pipelines.Inputs) error) error {
	p.talk(s)
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	if err := ready.checkKubeconfigs(graph.Plan{}); err != nil {
		return err
	}
	chosen, err := engine.Choose(ctx, p.Engine, os.Getenv, s.progress())
	if err != nil {
		return usageError{err}
	}
	if p.Out != "" {
		if err := os.MkdirAll(p.Out, 0o755); err != nil {
			return usageError{fmt.Errorf("make the folder for reports: %w", err)}
		}
	}
	log, err := ready.engineLog(s)
	if err != nil {
		return err
	}
	defer log.Close()
	client, err := log.connect(ctx, chosen)
	if err != nil {
		return err
	}
	defer engine.HangUp(client)
	return do(ctx, ready.inputs(client, chosen.Registry))
}
