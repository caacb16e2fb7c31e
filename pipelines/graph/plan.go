package graph

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// PlanSchema names the form of a plan's JSON.
const PlanSchema = "millrace/plan/v1"

// The reasons of nodes that were left out by the run's options.
const (
	// NotSelected is the reason of a node that [Only] does not select.
	NotSelected = "not selected"
	// OnRequest is the reason of a node that [Skip] names.
	OnRequest = "skipped on request"
)

// Plan says what a run would do, as far as that is known beforehand.
type Plan struct {
	// Graph is the graph's name.
	Graph string `json:"graph"`
	// Nodes are in the order of Add, in which they could run one by one.
	Nodes []PlanNode `json:"nodes"`
}

// PlanNode is a node in a [Plan].
type PlanNode struct {
	// Name is the node's name.
	Name string `json:"name"`
	// Doc describes the node in one line.
	Doc string `json:"doc,omitempty"`
	// Stage is the number of nodes on the longest path to the node, itself included: nodes of one stage can run side by side.
	Stage int `json:"stage"`
	// After names the nodes that must have ended before, apart from those in Needs.
	After []string `json:"after"`
	// Needs names the nodes whose values the node reads.
	Needs []string `json:"needs"`
	// Skip is the reason why the node will be skipped; empty when it will run.
	Skip string `json:"skip,omitempty"`
	// Timeout is the time after which the node is stopped; 0 means never.
	Timeout time.Duration `json:"-"`
	// Retries is how often the step is run again after a transient error.
	Retries int `json:"retries,omitempty"`
	// Always says that the node runs also after a failure.
	Always bool `json:"always,omitempty"`
	// Serial is the name of the lock that the node holds while it runs.
	Serial string `json:"serial,omitempty"`
}

type planNode PlanNode

type planNodeJSON struct {
	planNode
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`
}

// MarshalJSON writes the timeout in seconds.
func (n PlanNode) MarshalJSON() ([]byte, error) {
	return json.Marshal(planNodeJSON{planNode(n), n.Timeout.Seconds()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (n *PlanNode) UnmarshalJSON(data []byte) error {
	var j planNodeJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*n = PlanNode(j.planNode)
	n.Timeout = time.Duration(j.TimeoutSeconds * float64(time.Second))
	return nil
}

// Plan returns what [Graph.Run] would do with the same options, without running anything.
// Names that do not exist are ignored; [Graph.Check] reports them.
func (g *Graph) Plan(opts ...RunOption) Plan {
	skips := settingsOf(opts).skips(g.nodes)
	p := Plan{Graph: g.name, Nodes: make([]PlanNode, len(g.nodes))}
	for i, n := range g.nodes {
		pn := PlanNode{
			Name: n.name, Doc: n.doc, Stage: 1,
			After: make([]string, 0, len(n.after)), Needs: make([]string, 0, len(n.needs)),
			Skip: skips[i].reason, Timeout: n.limit(), Retries: max(n.attempts-1, 0), Always: n.always, Serial: n.serial,
		}
		for _, d := range n.after {
			pn.After = append(pn.After, d.name)
			pn.Stage = max(pn.Stage, p.Nodes[d.index].Stage+1)
		}
		for _, d := range n.needs {
			pn.Needs = append(pn.Needs, d.name)
			pn.Stage = max(pn.Stage, p.Nodes[d.index].Stage+1)
		}
		p.Nodes[i] = pn
	}
	return p
}

// skip is why a node will not run; the zero value is that of one that will.
type skip struct {
	reason string
	// inherited says that the reason is that of a node which this one needs, whether directly or not.
	inherited bool
	// asked says that the run's options leave the node out, and nothing else does.
	asked bool
}

// dependant returns why a node does not run that needs d, which is skipped for k.
// Along a chain of such nodes all name the first, so that the reason does not grow with the chain.
func (k skip) dependant(d *node) skip {
	if k.inherited {
		return k
	}
	reason := "skipped"
	switch {
	case k.reason == OnRequest:
		reason = OnRequest
	case k.reason != "":
		reason += ": " + k.reason
	}
	return skip{"needs " + d.name + ", which was " + reason, true, k.asked}
}

// skips returns, for each node, why it will not run.
func (s settings) skips(nodes []*node) []skip {
	skips := make([]skip, len(nodes))
	if len(s.only) > 0 {
		wanted := nameSet(s.only)
		selected := make([]bool, len(nodes))
		// What a node needs stands before it: from the last to the first, each is marked before it is looked at.
		for i := len(nodes) - 1; i >= 0; i-- {
			if selected[i] = selected[i] || wanted[nodes[i].name]; !selected[i] {
				skips[i] = skip{reason: NotSelected, asked: true}
				continue
			}
			for _, d := range nodes[i].needs {
				selected[d.index] = true
			}
		}
	}
	unwanted := nameSet(s.skip)
	left := make(map[string]string, len(nodes))
	for _, l := range s.left {
		for _, name := range l.names {
			left[name] = cmp.Or(l.reason, OnRequest)
		}
	}
	for i, n := range nodes {
		switch {
		case skips[i].reason != "":
		case unwanted[n.name]:
			skips[i] = skip{reason: OnRequest, asked: true}
		case left[n.name] != "":
			skips[i].reason = left[n.name]
		case n.unmet:
			skips[i].reason = cmp.Or(n.skip, "its condition is not met")
		default:
			for _, d := range n.needs {
				if k := skips[d.index]; k.reason != "" {
					skips[i] = k.dependant(d)
					break
				}
			}
		}
	}
	return skips
}

func nameSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// JSON returns the plan as an indented JSON object, with [PlanSchema] as its schema.
func (p Plan) JSON() ([]byte, error) {
	nodes := p.Nodes
	if nodes == nil {
		nodes = []PlanNode{}
	}
	data, err := json.MarshalIndent(struct {
		Schema string     `json:"schema"`
		Graph  string     `json:"graph"`
		Nodes  []PlanNode `json:"nodes"`
	}{PlanSchema, p.Graph, nodes}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write plan of %s: %w", p.Graph, err)
	}
	return append(data, '\n'), nil
}
