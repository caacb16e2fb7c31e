package project

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Gates are the conditions for a deployment to an environment.
type Gates struct {
	// From is the environment that images must have passed, by digest.
	From string `yaml:"from,omitempty"`
	// Window is when deployments may happen.
	Window *GateWindow `yaml:"window,omitempty"`
	// Approvers are who may approve; with any, one of them has to.
	Approvers []Approver `yaml:"approvers,omitempty"`
	// HostApproval takes the CI host's own approval in place of a signed one, such as that of a GitHub environment.
	HostApproval bool `yaml:"host_approval,omitempty"`
}

// GateWindow is a part of the week.
type GateWindow struct {
	// Days on which it opens: mon, tue, wed, thu, fri, sat, sun; every day if left out.
	Days []string `yaml:"days,omitempty"`
	// From and To are times of the day such as 09:00; an end before the start is on the next day.
	From string `yaml:"from,omitempty"`
	To   string `yaml:"to,omitempty"`
	// Zone is the time zone, such as Europe/Berlin; UTC if left out.
	Zone string `yaml:"zone,omitempty"`
}

// Approver is a person who may approve a deployment.
type Approver struct {
	// Name of the person, for the record.
	Name string `yaml:"name" jsonschema:"required,minLength=1"`
	// Key is the person's public SSH key, as the file id_ed25519.pub has it.
	Key string `yaml:"key" jsonschema:"required,minLength=1"`
}

// validateGates checks what types alone can't. environments are the names of all, in order.
func (c *config) validateGates(at, environment string, g *Gates, environments []string) error {
	if g == nil {
		return nil
	}
	if g.From == environment {
		return c.atPath(at+".from", "%s can't wait for itself", environment)
	}
	if g.From != "" {
		if err := c.mustBeOf(at+".from", "environment", g.From, environments); err != nil {
			return err
		}
		if slices.Index(environments, g.From) > slices.Index(environments, environment) {
			return c.atPath(at+".from", "%s stands below %s: environments are in the order in which images pass them", g.From, environment)
		}
	}
	if w := g.Window; w != nil {
		for i, day := range w.Days {
			if err := c.mustBeOf(fmt.Sprintf("%s.window.days[%d]", at, i), "day", day, []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}); err != nil {
				return err
			}
		}
		for _, clock := range []struct{ key, text string }{{"from", w.From}, {"to", w.To}} {
			if _, err := time.Parse("15:04", clock.text); clock.text != "" && clock.text != "24:00" && err != nil {
				return c.atPath(at+".window."+clock.key, "%q is no time of day: write it as \"09:00\"", clock.text)
			}
		}
		if w.From != "" && w.From == w.To {
			return c.atPath(at+".window", "it ends when it begins: leave out from and to for the whole day")
		}
	}
	var names []string
	for i, a := range g.Approvers {
		at := fmt.Sprintf("%s.approvers[%d]", at, i)
		switch {
		case a.Name == "":
			return c.atPath(at, "name is missing: say who it is")
		case slices.Contains(names, a.Name):
			return c.atPath(at+".name", "a second entry for %q", a.Name)
		case len(strings.Fields(a.Key)) < 2:
			return c.atPath(at+".key", "it is no public key: use the text of a file such as id_ed25519.pub")
		}
		names = append(names, a.Name)
	}
	return nil
}
