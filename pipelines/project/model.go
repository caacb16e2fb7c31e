package project

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Table is a table that models are trained on, and the contract that it must keep.
type Table struct {
	// Name by which models ask for it.
	Name string `yaml:"name" jsonschema:"required,pattern=^[a-z0-9]+([_-][a-z0-9]+)*$"`
	// Path of the table below the data's address; NAME.csv if left out.
	Path string `yaml:"path,omitempty"`
	// SHA256 that the file must have, as 64 hexadecimal digits; any if left out.
	SHA256 string `yaml:"sha256,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Separator between fields: a character, or the word whitespace; a comma if left out.
	Separator string `yaml:"separator,omitempty"`
	// NoHeader says that the first row is data: columns are then named in the order of columns.
	NoHeader bool `yaml:"no_header,omitempty"`
	// Rows bounds the number of rows; at least 1 if left out.
	Rows Rows `yaml:"rows,omitempty"`
	// Fresh says how old the newest row may be.
	Fresh Fresh `yaml:"fresh,omitempty"`
	// Columns that the table must have. It may have more, unless no_header is set.
	Columns []Column `yaml:"columns,omitempty"`
}

// Rows bounds a number of rows.
type Rows struct {
	// Min is the least number of rows; 1 if left out.
	Min int `yaml:"min,omitempty" jsonschema:"minimum=0"`
	// Max is the greatest number of rows; no bound if left out.
	Max int `yaml:"max,omitempty" jsonschema:"minimum=0"`
}

// Fresh says how old a table may be.
type Fresh struct {
	// Column with dates.
	Column string `yaml:"column,omitempty"`
	// Within is how long the newest date may lie back, such as 192h.
	Within time.Duration `yaml:"within,omitempty"`
}

// Column is what a column's values must be.
type Column struct {
	// Name of the column.
	Name string `yaml:"name" jsonschema:"required,minLength=1"`
	// Type of its values: string, integer, number, boolean or date; string if left out.
	Type string `yaml:"type,omitempty" jsonschema:"enum=string,enum=integer,enum=number,enum=boolean,enum=date"`
	// Format of dates, such as %Y%m%d; ISO 8601 if left out. A date in the future is a breach.
	Format string `yaml:"format,omitempty"`
	// Nullable allows empty values.
	Nullable bool `yaml:"nullable,omitempty"`
	// Optional allows the whole column to be missing.
	Optional bool `yaml:"optional,omitempty"`
	// Unique forbids a value twice.
	Unique bool `yaml:"unique,omitempty"`
	// Min is the least number.
	Min *float64 `yaml:"min,omitempty"`
	// Max is the greatest number.
	Max *float64 `yaml:"max,omitempty"`
	// Values that are allowed; any if left out.
	Values []string `yaml:"values,omitempty"`
	// Pattern is a regular expression that the whole text must match.
	Pattern string `yaml:"pattern,omitempty"`
}

// Model is a model to train: a container that is called in a certain way, and what its metrics must be.
type Model struct {
	// Name of the model.
	Name string `yaml:"name" jsonschema:"required,pattern=^[a-z0-9]+([_-][a-z0-9]+)*$"`
	// Description for the model card: what the model is for, and what not.
	Description string `yaml:"description,omitempty"`
	// Image that it is trained in: the name of one of images, or a reference such as registry.example.com/train:1. It needs Python 3.
	Image string `yaml:"image,omitempty"`
	// Dockerfile of the image, where it is not among images.
	Dockerfile string `yaml:"dockerfile,omitempty"`
	// Command in the container. {out} is the folder for outputs, {data.NAME} the file of a table, {seed} the seed.
	Command []string `yaml:"command" jsonschema:"required,minItems=1"`
	// Inputs are the names of the tables that it reads.
	Inputs []string `yaml:"inputs" jsonschema:"required,minItems=1"`
	// Metrics is the file with the metrics among the outputs; metrics.json if left out.
	Metrics string `yaml:"metrics,omitempty"`
	// Holdout is the file with the held-out rows and what the model says of them; holdout.csv if left out.
	Holdout string `yaml:"holdout,omitempty"`
	// Segment is the column of the held-out rows by which gates look at parts of them too.
	Segment string `yaml:"segment,omitempty"`
	// Seed of all randomness; 20240501 if left out.
	Seed int `yaml:"seed,omitempty"`
	// CPUs that it may use; 1 if left out.
	CPUs int `yaml:"cpus,omitempty" jsonschema:"minimum=1"`
	// MemoryMiB is how much memory it may use, in MiB; 2048 if left out.
	MemoryMiB int `yaml:"memory_mib,omitempty" jsonschema:"minimum=16"`
	// Timeout ends a training that hangs; 30m if left out.
	Timeout time.Duration `yaml:"timeout,omitempty"`
	// Grid has the values to try of each parameter; each is passed as --NAME=VALUE, and every combination is a training.
	Grid map[string][]string `yaml:"grid,omitempty"`
	// Choose says by which metric the best of the grid is chosen. It should not be one of the held-out rows, or they are no longer unseen.
	Choose Choose `yaml:"choose,omitempty"`
	// Gates that the model must pass to become champion.
	Gates []Gate `yaml:"gates,omitempty"`
	// Runner is where it is trained: engine, or kubernetes for pods of a cluster; what training says if left out.
	Runner string `yaml:"runner,omitempty" jsonschema:"enum=engine,enum=kubernetes"`
	// Kubernetes says where in a cluster, instead of what training says.
	Kubernetes *Kubernetes `yaml:"kubernetes,omitempty"`

	// Parsed is what its own Dockerfile needs; the zero value where that can't be parsed, which is the build's to report.
	Parsed Dockerfile `yaml:"-"`
}

// Choose says by which metric the best of several trainings is chosen.
type Choose struct {
	// Metric by its path in the metrics file, with dots.
	Metric string `yaml:"metric,omitempty"`
	// Lower says that less is better.
	Lower bool `yaml:"lower,omitempty"`
}

// Gate is a condition on a metric.
type Gate struct {
	// Metric by its path in the metrics file, with dots.
	Metric string `yaml:"metric" jsonschema:"required,minLength=1"`
	// Min is the least value: the whole interval of the held-out rows' 95 % must reach it.
	Min *float64 `yaml:"min,omitempty"`
	// Max is the greatest value: no part of that interval may exceed it.
	Max *float64 `yaml:"max,omitempty"`
	// Margin by which it may be worse than the champion's; not compared if left out. It is compared on the held-out rows that both have judged: roc_auc, pr_auc, brier, log_loss, mae, rmse, or the mean of the column of this name.
	Margin *float64 `yaml:"margin,omitempty"`
	// Lower says that less is better; known for the metrics above.
	Lower bool `yaml:"lower,omitempty"`
}

// Artifacts says where models and reports are kept.
type Artifacts struct {
	// Store is a folder, or an address such as s3://bucket/path, gs://bucket/path, az://container/path or oci://host/repository.
	Store string `yaml:"store,omitempty"`
	// Endpoint of buckets of the store's kind, where it is not the cloud's own: an S3-compatible server, such as https://s3.example.com, or an account of Azure, such as https://ACCOUNT.blob.core.usgovcloudapi.net; for S3 where the store is no bucket.
	Endpoint string `yaml:"endpoint,omitempty"`
	// Region of buckets of S3.
	Region string `yaml:"region,omitempty"`
	// MLflow is the address of a tracking server whose model registry is told of every champion, such as https://mlflow.example.com.
	MLflow string `yaml:"mlflow,omitempty"`
}

// EndpointOf returns the endpoint of the bucket at an address; empty where none is configured for buckets of its kind.
func (a Artifacts) EndpointOf(address string) string {
	kind, _, _ := strings.Cut(address, "://")
	own, _, found := strings.Cut(a.Store, "://")
	if !found || own == "oci" || own == "oci+http" {
		own = "s3"
	}
	if kind != own {
		return ""
	}
	return a.Endpoint
}

// ColumnTypes are the values of data.columns.type.
var ColumnTypes = []string{"string", "integer", "number", "boolean", "date"}

var (
	modelPattern  = regexp.MustCompile(`^[a-z0-9]+([_-][a-z0-9]+)*$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	holePattern   = regexp.MustCompile(`\{([a-z0-9._-]*)\}`)
)

// validateModels checks tables and models, and fills in what they leave out.
func (c *config) validateModels(p *Project, l *listing) error {
	tables := map[string]bool{}
	for i := range p.Data {
		at := fmt.Sprintf("data[%d]", i)
		t := &p.Data[i]
		if tables[t.Name] {
			return c.atPath(at+".name", "a second table %q: put both into one", t.Name)
		}
		if err := c.validateTable(at, t); err != nil {
			return err
		}
		tables[t.Name] = true
	}
	seen := map[string]bool{}
	for i := range p.Models {
		at := fmt.Sprintf("models[%d]", i)
		m := &p.Models[i]
		if seen[m.Name] {
			return c.atPath(at+".name", "a second model %q: put both into one", m.Name)
		}
		seen[m.Name] = true
		if err := c.validateModel(at, m, p, l); err != nil {
			return err
		}
		*m = m.complete()
	}
	return c.validateRunners(p)
}

func (c *config) validateTable(at string, t *Table) error {
	switch {
	case t.Name == "":
		return c.atPath(at, "name is missing: name the table, such as customers")
	case !modelPattern.MatchString(t.Name):
		return c.atPath(at+".name", "%q is no name: use lower-case letters, digits and single _ - between them", t.Name)
	case t.SHA256 != "" && !digestPattern.MatchString(t.SHA256):
		return c.atPath(at+".sha256", "%q is no SHA-256: give 64 hexadecimal digits, as sha256sum prints them", t.SHA256)
	case t.Separator != "" && t.Separator != "whitespace" && len([]rune(t.Separator)) != 1:
		return c.atPath(at+".separator", "%q is no separator: use one character, or whitespace", t.Separator)
	case t.NoHeader && len(t.Columns) == 0:
		return c.atPath(at+".no_header", "name the columns in their order, under columns")
	case (t.Fresh.Column == "") != (t.Fresh.Within == 0):
		return c.atPath(at+".fresh", "give both column and within")
	case t.Rows.Max > 0 && t.Rows.Max < t.Rows.Min:
		return c.atPath(at+".rows", "max is less than min")
	}
	if t.Path == "" {
		t.Path = t.Name + ".csv"
	}
	t.Path = clean(t.Path)
	if strings.HasPrefix(t.Path, "/") || t.Path == ".." || strings.HasPrefix(t.Path, "../") {
		return c.atPath(at+".path", "%q lies outside of the data: give a path below its address", t.Path)
	}
	names := map[string]bool{}
	for j, col := range t.Columns {
		below := fmt.Sprintf("%s.columns[%d]", at, j)
		switch {
		case col.Name == "":
			return c.atPath(below, "name is missing: name the column")
		case names[col.Name]:
			return c.atPath(below+".name", "a second column %q: put both into one", col.Name)
		case col.Min != nil && col.Max != nil && *col.Max < *col.Min:
			return c.atPath(below, "max is less than min")
		}
		names[col.Name] = true
		if col.Type == "" {
			t.Columns[j].Type = "string"
		} else if err := c.mustBeOf(below+".type", "type", col.Type, ColumnTypes); err != nil {
			return err
		}
		if col.Pattern != "" {
			if _, err := regexp.Compile(col.Pattern); err != nil {
				return c.atPath(below+".pattern", "%v", err)
			}
		}
	}
	if t.Fresh.Column != "" && !slices.ContainsFunc(t.Columns, func(col Column) bool { return col.Name == t.Fresh.Column && col.Type == "date" }) {
		return c.atPath(at+".fresh", "%q is not among the columns of type date", t.Fresh.Column)
	}
	return nil
}

func (c *config) validateModel(at string, m *Model, p *Project, l *listing) error {
	switch {
	case m.Name == "":
		return c.atPath(at, "name is missing: name the model, such as churn")
	case !modelPattern.MatchString(m.Name):
		return c.atPath(at+".name", "%q is no name: use lower-case letters, digits and single _ - between them", m.Name)
	case (m.Image == "") == (m.Dockerfile == ""):
		return c.atPath(at, "give either image or dockerfile: what is %s trained in?", m.Name)
	case len(m.Command) == 0:
		return c.atPath(at, "command is missing: say how %s is trained", m.Name)
	case len(m.Inputs) == 0:
		return c.atPath(at, "inputs is missing: name the tables that %s is trained on", m.Name)
	case len(m.Grid) > 0 && m.Choose.Metric == "":
		return c.atPath(at+".grid", "say under choose by which metric the best is chosen")
	case m.Timeout < 0:
		return c.atPath(at+".timeout", "%v is too short: use a duration such as 30m", m.Timeout)
	}
	if m.Dockerfile != "" {
		m.Dockerfile = clean(m.Dockerfile)
		if err := c.mustExist(l, at+".dockerfile", m.Dockerfile); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(p.Data))
	for _, t := range p.Data {
		names = append(names, t.Name)
	}
	holes := []string{"out", "seed"}
	for j, input := range m.Inputs {
		if err := c.mustBeOf(fmt.Sprintf("%s.inputs[%d]", at, j), "table", input, names); err != nil {
			return err
		}
		holes = append(holes, "data."+input)
	}
	for j, word := range m.Command {
		for _, hole := range holePattern.FindAllStringSubmatch(word, -1) {
			if err := c.mustBeOf(fmt.Sprintf("%s.command[%d]", at, j), "placeholder", hole[1], holes); err != nil {
				return err
			}
		}
	}
	for name, values := range m.Grid {
		if len(values) == 0 {
			return c.atPath(at+".grid."+name, "has no values: give some, or remove it")
		}
	}
	for j, g := range m.Gates {
		below := fmt.Sprintf("%s.gates[%d]", at, j)
		switch {
		case g.Metric == "":
			return c.atPath(below, "metric is missing: name the metric")
		case g.Min == nil && g.Max == nil && g.Margin == nil:
			return c.atPath(below, "give min, max or margin: what must %s be?", g.Metric)
		case g.Margin != nil && *g.Margin < 0:
			return c.atPath(below+".margin", "it is less than 0: say by how much %s may be worse than the champion's", g.Metric)
		}
	}
	return nil
}

// complete fills in what was left out.
func (m Model) complete() Model {
	if m.Metrics == "" {
		m.Metrics = "metrics.json"
	}
	if m.Holdout == "" {
		m.Holdout = "holdout.csv"
	}
	if m.Seed == 0 {
		m.Seed = 20240501
	}
	if m.CPUs == 0 {
		m.CPUs = 1
	}
	if m.MemoryMiB == 0 {
		m.MemoryMiB = 2048
	}
	if m.Timeout == 0 {
		m.Timeout = 30 * time.Minute
	}
	return m
}

// Table returns the table of that name.
func (p *Project) Table(name string) (Table, bool) {
	i := slices.IndexFunc(p.Data, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, false
	}
	return p.Data[i], true
}
