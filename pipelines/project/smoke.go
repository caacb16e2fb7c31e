package project

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Smoke is one check of a deployed environment, made from inside the cluster's network. It is one of http, command and pytest.
type Smoke struct {
	// Name of the check in reports; what it does if left out.
	Name string `yaml:"name,omitempty"`
	// HTTP sends a request and looks at the answer.
	HTTP *SmokeHTTP `yaml:"http,omitempty"`
	// Command runs in a container of any image, and passes when it exits with 0.
	Command *SmokeCommand `yaml:"command,omitempty"`
	// Pytest runs a file or folder of the source with pytest.
	Pytest *SmokePytest `yaml:"pytest,omitempty"`
	// Env are environment variables; BASE_URL and NAMESPACE are set.
	Env map[string]string `yaml:"env,omitempty"`
	// Secrets are environment variables whose values lie in the namespace, as secret/key. A header may name one as ${NAME}.
	Secrets map[string]string `yaml:"secrets,omitempty"`
	// Timeout of the check; 10s by default for http, 5m for the others.
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// SmokeHTTP is a request, and what its answer must be.
type SmokeHTTP struct {
	// URL to ask; a path such as /readyz is taken from the environment's url.
	URL string `yaml:"url" jsonschema:"required,minLength=1"`
	// Method of the request; GET by default, POST with a body.
	Method string `yaml:"method,omitempty"`
	// Headers of the request.
	Headers map[string]string `yaml:"headers,omitempty"`
	// Body of the request.
	Body string `yaml:"body,omitempty"`
	// Status that the answer must have; 200 by default. Redirections are not followed.
	Status int `yaml:"status,omitempty" jsonschema:"minimum=100,maximum=599,default=200"`
	// Contains is text that the body must have in it.
	Contains string `yaml:"contains,omitempty"`
	// Matches is a regular expression, as Python has them, that must match somewhere in the body.
	Matches string `yaml:"matches,omitempty"`
	// JSON maps paths in the body, such as models.churn or items[0].id, to the values that must stand there.
	JSON map[string]any `yaml:"json,omitempty"`
	// MaxLatency is how long the whole answer may take, such as 500ms; no bound if left out.
	MaxLatency time.Duration `yaml:"max_latency,omitempty"`
}

// SmokeCommand is a command in a container of the user's.
type SmokeCommand struct {
	// Image that it runs in, as the cluster pulls it.
	Image string `yaml:"image" jsonschema:"required,minLength=1"`
	// Argv is the program with its arguments; the image's own if left out.
	Argv []string `yaml:"argv,omitempty"`
	// User is the number of the user that it runs as, which can't be 0; 65532 by default.
	User int `yaml:"user,omitempty" jsonschema:"minimum=1"`
}

// SmokePytest is a file or folder with tests that ask the deployed service.
type SmokePytest struct {
	// Path of the file or folder in the source.
	Path string `yaml:"path" jsonschema:"required,minLength=1"`
	// Requirements to install beside pytest, such as httpx==0.28.1.
	Requirements []string `yaml:"requirements,omitempty"`
	// Python is the version of Python; that of the project by default.
	Python string `yaml:"python,omitempty" jsonschema:"pattern=^3\\.[0-9]+(\\.[0-9]+)?$"`
}

var secretKey = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9._-]+$`)

// validateSmoke checks what types alone can't, and brings paths into their plain form.
func (c *config) validateSmoke(l *listing, at string, checks []Smoke) error {
	for i := range checks {
		check, at := &checks[i], fmt.Sprintf("%s[%d]", at, i)
		kinds := 0
		for _, given := range []bool{check.HTTP != nil, check.Command != nil, check.Pytest != nil} {
			if given {
				kinds++
			}
		}
		switch {
		case kinds != 1:
			return c.atPath(at, "a smoke test is one of http, command and pytest, and this has %d of them", kinds)
		case check.Timeout < 0:
			return c.atPath(at+".timeout", "%v is too short: use a duration such as 10s", check.Timeout)
		}
		for name, value := range check.Secrets {
			if !secretKey.MatchString(value) {
				return c.atPath(at+".secrets."+name, "%q names no secret: write the Secret and the key in it as api-credentials/token", value)
			}
		}
		if h := check.HTTP; h != nil {
			switch {
			case h.URL == "":
				return c.atPath(at+".http", "url is missing: name what to ask, such as /readyz")
			case !strings.HasPrefix(h.URL, "/") && !webAddress(h.URL):
				return c.atPath(at+".http.url", "%q is neither a path such as /readyz nor an address such as http://api/readyz", h.URL)
			case h.Status != 0 && (h.Status < 100 || h.Status > 599):
				return c.atPath(at+".http.status", "%d is no status of HTTP", h.Status)
			case h.MaxLatency < 0:
				return c.atPath(at+".http.max_latency", "%v is too short: use a duration such as 500ms", h.MaxLatency)
			}
		}
		if check.Command != nil && check.Command.Image == "" {
			return c.atPath(at+".command", "image is missing: name the image that the command runs in")
		}
		if check.Command != nil && check.Command.User < 0 {
			return c.atPath(at+".command.user", "%d is no user: use a number above 0", check.Command.User)
		}
		if p := check.Pytest; p != nil {
			if p.Path == "" {
				return c.atPath(at+".pytest", "path is missing: name the file or folder with the tests")
			}
			p.Path = clean(p.Path)
			if err := c.mustExist(l, at+".pytest.path", p.Path); err != nil {
				return err
			}
			if p.Python != "" && !versionPattern.MatchString(p.Python) {
				return c.atPath(at+".pytest.python", "%q is no version of Python 3: write it as \"3.11\"", p.Python)
			}
		}
	}
	return nil
}
