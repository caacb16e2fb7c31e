package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"dagger.io/dagger"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// mirror is the embedded engine's registry as its clients see it: what was pushed, and the stand-ins for images of
// Docker Hub, each of which is made when it is first asked for. So only what a graph needs is ever built,
// whoever asks: a step, a Dockerfile, or the plain dagger command.
type mirror struct {
	address string

	engine  *Embedded
	server  *http.Server
	backend *httputil.ReverseProxy
	records string

	mu     sync.Mutex
	made   map[string]string // reference -> digest of the recipe it was made by
	making map[string]*making

	// building is held while programs are built: a build takes all processors, and two of one module the same folder.
	building sync.Mutex
}

// making is a stand-in that is being made, or that could not be made.
type making struct {
	StandIn
	done chan struct{}
}

const (
	// statusPath is where the mirror tells what it is making.
	statusPath = "/millrace/stand-ins"
	// DefaultRegistry is used when it is free, so that references stay the same.
	DefaultRegistry = "127.0.0.1:5000"
	// standIns is the part of the registry where the stand-ins lie, apart from what users push.
	standIns = "stand-ins/"
)

// escapes are the terminal's control sequences, which the SDK's log has even where it is no terminal's.
var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

var manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)

func (e *Embedded) startMirror(registry string) (*mirror, error) {
	m := &mirror{engine: e, records: e.path("stand-ins.json"), making: map[string]*making{}, made: map[string]string{}}
	data, err := os.ReadFile(m.records)
	if err == nil {
		err = json.Unmarshal(data, &m.made)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// The record only saves work: without it, images are made again.
		log.Printf("ignoring %s: %v", m.records, err)
	}
	m.backend = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	listener, err := listen(e.path("registry-address"))
	if err != nil {
		return nil, err
	}
	m.address = listener.Addr().String()
	m.server = &http.Server{Handler: m, ReadHeaderTimeout: 30 * time.Second}
	go func() {
		if err := m.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("mirror: %v", err)
		}
	}()
	return m, nil
}

// listen takes the address that was used last, else the usual one, else any that is free.
func listen(memory string) (net.Listener, error) {
	last, _ := os.ReadFile(memory)
	var failed error
	for _, address := range []string{strings.TrimSpace(string(last)), DefaultRegistry, "127.0.0.1:0"} {
		if address == "" {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			failed = err
			continue
		}
		return l, os.WriteFile(memory, []byte(l.Addr().String()), 0o644)
	}
	return nil, fmt.Errorf("listen for the registry: %w", failed)
}

func (m *mirror) Close() { _ = m.server.Close() }

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == statusPath {
		m.serveStatus(w)
		return
	}
	// A client that asks a mirror names the registry that it stands for.
	if r.URL.Query().Get("ns") == "docker.io" {
		match := manifestPath.FindStringSubmatch(r.URL.Path)
		if match != nil && !strings.HasPrefix(match[2], "sha256:") {
			if err := m.ensure(r.Context(), match[1]+":"+match[2]); err != nil {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusInternalServerError)
				_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "UNKNOWN", "message": err.Error()}}})
				return
			}
		}
		r.URL.Path = strings.Replace(r.URL.Path, "/v2/", "/v2/"+standIns, 1)
	}
	m.backend.ServeHTTP(w, r)
}

func (m *mirror) serveStatus(w http.ResponseWriter) {
	m.mu.Lock()
	all := make([]StandIn, 0, len(m.making))
	for k := range maps.Values(m.making) {
		all = append(all, k.StandIn)
	}
	m.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all)
}

// ensure makes the stand-in for reference, if there is a recipe for it and it is not there in the recipe's present form.
func (m *mirror) ensure(ctx context.Context, reference string) error {
	recipe, ok := embedded.FindRecipe(reference)
	if !ok {
		return nil
	}
	digest, err := recipe.Digest()
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.made[reference] == digest {
		m.mu.Unlock()
		return nil
	}
	k := m.making[reference]
	if k == nil || k.Error != "" {
		k = &making{StandIn: StandIn{Reference: reference, Started: time.Now().UTC()}, done: make(chan struct{})}
		m.making[reference] = k
		// The work is not the asking client's: it goes on when that gives up.
		go m.make(context.WithoutCancel(ctx), k, recipe, digest)
	}
	m.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
	}
	if k.Error != "" {
		return errors.New(k.Error)
	}
	return nil
}

func (m *mirror) make(ctx context.Context, k *making, recipe embedded.Recipe, digest string) {
	log.Printf("making %s", k.Reference)
	err := m.build(ctx, k.Reference, recipe)
	m.mu.Lock()
	defer m.mu.Unlock()
	defer close(k.done)
	if err != nil {
		log.Printf("making %s: %v", k.Reference, err)
		k.Error = fmt.Sprintf("make the stand-in for %s: %v", k.Reference, err)
		return
	}
	log.Printf("made %s in %s", k.Reference, elapsed(k.Started))
	delete(m.making, k.Reference)
	m.made[k.Reference] = digest
	if err := writeJSON(m.records, m.made); err != nil {
		log.Printf("record %s: %v", k.Reference, err)
	}
}

func (m *mirror) build(ctx context.Context, reference string, recipe embedded.Recipe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if recipe.Suite != "" {
		root, err := m.engine.makeRoot(ctx, standInRoot(recipe.Suite))
		if err != nil {
			return err
		}
		img, err := imageOf(v1.Config{Cmd: []string{"bash"}, Labels: recipe.Labels(reference), Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}, root)
		if err != nil {
			return err
		}
		ref, err := name.ParseReference(m.address+"/"+standIns+reference, name.Insecure)
		if err != nil {
			return err
		}
		return remote.Write(ref, img, remote.WithContext(ctx))
	}
	programs := make(map[embedded.Module]string, len(recipe.Programs))
	for _, module := range recipe.Programs {
		var err error
		if programs[module], err = m.programs(ctx, module); err != nil {
			return err
		}
	}
	cli, err := m.engine.CLI()
	if err != nil {
		return err
	}
	if err := os.Setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", cli); err != nil {
		return err
	}
	var said bytes.Buffer
	c, err := dagger.Connect(ctx, dagger.WithRunnerHost("unix://"+m.engine.socketPath()), dagger.WithLogOutput(&said))
	if err != nil {
		return err
	}
	defer c.Close()
	in := embedded.Inputs{Client: c, Programs: make(map[embedded.Module]*dagger.Directory, len(programs))}
	if recipe.NeedsGo {
		toolchain, err := m.engine.toolchain(ctx)
		if err != nil {
			return err
		}
		in.Go = c.Host().Directory(toolchain)
	}
	for module, dir := range programs {
		in.Programs[module] = c.Host().Directory(dir)
	}
	ctr := recipe.Build(c.Container().From("docker.io/"+recipe.Base), in)
	for k, v := range recipe.Labels(reference) {
		ctr = ctr.WithLabel(k, v)
	}
	if _, err := ctr.Publish(ctx, m.address+"/"+standIns+reference); err != nil {
		return fmt.Errorf("%w\n%s", err, lastLines(escapes.ReplaceAll(said.Bytes(), nil), 12))
	}
	return nil
}

// programs builds the programs of module, if they are not there yet, and returns their folder.
func (m *mirror) programs(ctx context.Context, module embedded.Module) (string, error) {
	m.building.Lock()
	defer m.building.Unlock()
	if err := os.MkdirAll(m.engine.path("tmp"), 0o755); err != nil {
		return "", err
	}
	if err := m.engine.buildPrograms(ctx, module); err != nil {
		return "", err
	}
	return m.engine.programs(module)
}

// StandIn is an image that the embedded engine's registry is making, or failed to make.
type StandIn struct {
	Reference string    `json:"reference"`
	Started   time.Time `json:"started"`
	Error     string    `json:"error,omitempty"`
}

// StandIns returns the images that the registry at address is making right now, or failed to make.
func StandIns(ctx context.Context, address string) ([]StandIn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+statusPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []StandIn
	return all, json.NewDecoder(resp.Body).Decode(&all)
}
