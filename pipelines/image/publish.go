package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dagger.io/dagger"
	"github.com/distribution/reference"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Publish pushes built images to an OCI registry. It is never cached.
//
// All tags of an image point to one digest. The tags of the commit and of a release come first, for every image;
// tags that move, such as a branch's, follow only when all images are there. So a push that ends half-way leaves
// moving tags on the images that they had, and a tag is set only after what it points to has arrived.
// What the registry has already is not sent again: a second run asks for it, and sends nothing.
//
// Errors that may go away by themselves (no connection, status 5xx or 429) are marked for graph.Retry.
type Publish struct {
	// Registry is host[:port]/path without a scheme, for example "ghcr.io/acme/ml"; the image's name is put below it.
	// Without one, nothing is published, and the step is skipped.
	Registry string
	// Tags are the tags of every image; see host.Ref.ImageTags.
	Tags []string
	// Username and Password are the login; without a password, the registry is used without one.
	Username string
	Password *dagger.Secret
	// Labels are put on every image before it is pushed.
	Labels Labels
}

// Published is an image in a registry.
type Published struct {
	// Name is the spec's.
	Name string `json:"name"`
	// Reference names the image by its digest: registry/path/name@sha256:…
	Reference string `json:"reference"`
	// Digest is the manifest's, or the index's where there are several platforms.
	Digest string `json:"digest"`
	// Tags point to the digest.
	Tags []string `json:"tags"`
}

// PublishResult is what [Publish] returns.
type PublishResult struct {
	step.Result
	// Images are the published images by their names.
	Images map[string]Published
}

// CheckRegistry says what is wrong with the address of a registry; an empty address is none.
func CheckRegistry(address string) error {
	if address == "" {
		return nil
	}
	if _, _, found := strings.Cut(address, "://"); found {
		return fmt.Errorf("registry %q: give host[:port]/path without https://", address)
	}
	if _, err := reference.ParseNormalizedNamed(strings.TrimSuffix(address, "/") + "/name"); err != nil {
		return fmt.Errorf("registry %q: %w; it must be host[:port]/path in lower case, such as ghcr.io/acme/ml", address, err)
	}
	return nil
}

// Run publishes the images. The report images.json lists name, reference, digest and tags of each.
func (p Publish) Run(ctx context.Context, c *dagger.Client, images []Built) (PublishResult, error) {
	switch {
	case p.Registry == "":
		return PublishResult{Result: step.Skip("no registry is given: set one to publish to, as host/path")}, nil
	case len(p.Tags) == 0:
		return PublishResult{Result: step.Skip("there is no tag to publish under: no branch, Git tag, pull request or commit is known")}, nil
	case len(images) == 0:
		return PublishResult{Result: step.Skip("no image was built")}, nil
	}
	if err := CheckRegistry(p.Registry); err != nil {
		return PublishResult{}, err
	}
	if p.Password != nil && p.Username == "" {
		return PublishResult{}, fmt.Errorf("registry %s: there is a password and no user name: give both", p.Registry)
	}
	pushes := make([]*push, 0, len(images))
	for _, built := range images {
		one, err := p.prepare(built)
		if err != nil {
			return PublishResult{}, err
		}
		pushes = append(pushes, one)
	}
	tags := steadiest(p.Tags)
	// The first tag brings the layers; of the others, each is a manifest alone.
	if err := each(pushes, func(one *push) error { return p.push(ctx, one, tags[0]) }); err != nil {
		return PublishResult{}, err
	}
	if err := each(pushes, func(one *push) error {
		for _, tag := range tags[1:] {
			if err := p.push(ctx, one, tag); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return PublishResult{}, err
	}
	return p.result(c, pushes), nil
}

// push is an image on its way.
type push struct {
	published  Published
	repository reference.Named
	container  *dagger.Container
	variants   []*dagger.Container
}

func (p Publish) prepare(built Built) (*push, error) {
	if err := checkName(built.Name); err != nil {
		return nil, err
	}
	repository, err := reference.ParseNormalizedNamed(strings.TrimSuffix(p.Registry, "/") + "/" + built.Name)
	if err != nil {
		return nil, fmt.Errorf("publish %s to %s: %w", built.Name, p.Registry, err)
	}
	one := &push{published: Published{Name: built.Name}, repository: repository, container: p.Labels.Apply(built.Container, built.Name)}
	for _, variant := range built.Variants {
		one.variants = append(one.variants, p.Labels.Apply(variant, built.Name))
	}
	if p.Password != nil {
		// Only the host: the engine takes a port for a tag when the path after it has a dot.
		one.container = one.container.WithRegistryAuth(reference.Domain(repository), p.Username, p.Password)
	}
	return one, nil
}

// push sets one tag of one image, and sends what the registry does not have.
func (p Publish) push(ctx context.Context, one *push, tag string) error {
	tagged, err := reference.WithTag(one.repository, tag)
	if err != nil {
		return fmt.Errorf("publish %s: tag %q: %w", one.published.Name, tag, err)
	}
	got, err := one.container.Publish(ctx, tagged.String(), dagger.ContainerPublishOpts{PlatformVariants: one.variants})
	if err != nil {
		return p.explain(one, tagged.String(), err)
	}
	parsed, err := reference.ParseNormalizedNamed(got)
	if err != nil {
		return fmt.Errorf("publish %s: the engine returned %q: %w", tagged, got, err)
	}
	digested, ok := parsed.(reference.Digested)
	if !ok {
		return fmt.Errorf("publish %s: the engine returned %q, which has no digest", tagged, got)
	}
	digest := digested.Digest().String()
	if one.published.Digest != "" && one.published.Digest != digest {
		return fmt.Errorf("publish %s: it has the digest %s, and the tag %s before it has %s: the engine dropped its cache in between; publish again",
			tagged, digest, one.published.Tags[0], one.published.Digest)
	}
	one.published.Digest = digest
	one.published.Reference = one.repository.Name() + "@" + digest
	one.published.Tags = append(one.published.Tags, tag)
	return nil
}

// each runs f on all pushes side by side, and joins their errors.
func each(pushes []*push, f func(*push) error) error {
	errs := make([]error, len(pushes))
	var wg sync.WaitGroup
	for i, one := range pushes {
		wg.Go(func() { errs[i] = f(one) })
	}
	wg.Wait()
	return join(errs)
}

// join joins errors so that the whole may go away by itself only if each of them may.
func join(errs []error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	// A wrong password refuses every image in the same words: once is enough.
	errs = slices.CompactFunc(errs, func(a, b error) bool { return a.Error() == b.Error() })
	if slices.ContainsFunc(errs, func(err error) bool { return !graph.IsTransient(err) }) {
		for i, err := range errs {
			if graph.IsTransient(err) {
				errs[i] = errors.New(err.Error())
			}
		}
	}
	return errors.Join(errs...)
}

var (
	unauthorized = regexp.MustCompile(`(?i)\b401\b|unauthorized|authentication required|no basic auth credentials|insufficient_scope|authorization failed|incorrect username or password`)
	forbidden    = regexp.MustCompile(`(?i)\b403\b|forbidden|denied`)
	unknownRepo  = regexp.MustCompile(`(?i)\b404\b|NAME_UNKNOWN|name unknown|repository does not exist|\bnot found\b`)
	noHost       = regexp.MustCompile(`(?i)no such host`)
	plainHTTP    = regexp.MustCompile(`(?i)server gave HTTP response to HTTPS client`)
	badCA        = regexp.MustCompile(`(?i)x509:|certificate`)
)

// explain says what to do about a push that failed.
func (p Publish) explain(one *push, address string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("publish %s: %w", address, err)
	}
	host := reference.Domain(one.repository)
	text, why := trace.ReplaceAllString(err.Error(), ""), cause(err.Error())
	switch {
	case mayPass(text):
		return graph.Transient(fmt.Errorf("publish to %s: the registry can't be reached, or is not well: %s", host, why))
	case lost.MatchString(text):
		return fmt.Errorf("publish %s: the engine is gone: %s", address, why)
	case unauthorized.MatchString(text) && p.Password == nil:
		return fmt.Errorf("publish to %s: the registry wants a login, and none is given: set user name and password: %s", host, why)
	case unauthorized.MatchString(text):
		return fmt.Errorf("publish to %s: the registry refuses the login of user %q: check the user name, and that the password is right and has not expired: %s", host, p.Username, why)
	case forbidden.MatchString(text) && p.Password == nil:
		return fmt.Errorf("publish %s: nobody may push there without a login: set user name and password: %s", address, why)
	case forbidden.MatchString(text):
		return fmt.Errorf("publish %s: user %q may not push there: give the account the right to write, or correct the path: %s", address, p.Username, why)
	case unknownRepo.MatchString(text):
		return fmt.Errorf("publish %s: the registry has no such repository: create it, or correct the path: %s", address, why)
	case noHost.MatchString(text):
		return fmt.Errorf("publish to %s: there is no such host: correct the registry's address: %s", host, why)
	case plainHTTP.MatchString(text):
		return fmt.Errorf("publish to %s: the registry speaks HTTP without TLS: allow that in the engine's configuration, as http = true for this registry: %s", host, why)
	case badCA.MatchString(text):
		return fmt.Errorf("publish to %s: the engine does not trust the registry's certificate: add its certificate authority to the engine: %s", host, why)
	default:
		return fmt.Errorf("publish %s: %s", address, why)
	}
}

var (
	pushPrefix  = regexp.MustCompile(`^(?:failed to export: )?(?:failed to push \S+: )?(?:failed to do request: )?`)
	statusOf    = regexp.MustCompile(`unexpected status from \S+ request to \S+: (.*)`)
	requestVerb = regexp.MustCompile(`^[A-Z][a-z]+ "\S+": `)
)

// cause cuts the engine's message down to what a person needs, and to what is the same for every layer of every image.
func cause(text string) string {
	text = pushPrefix.ReplaceAllString(trace.ReplaceAllString(text, ""), "")
	if m := statusOf.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return requestVerb.ReplaceAllString(text, "")
}

func (p Publish) result(c *dagger.Client, pushes []*push) PublishResult {
	images := map[string]Published{}
	for _, one := range pushes {
		images[one.published.Name] = one.published
	}
	list := make([]Published, 0, len(images))
	var output []string
	var artifacts []report.Artifact
	for _, name := range slices.Sorted(maps.Keys(images)) {
		list = append(list, images[name])
		repository, _, _ := strings.Cut(images[name].Reference, "@")
		artifacts = append(artifacts, report.Artifact{Name: name, Reference: repository + ":" + images[name].Tags[0], Digest: images[name].Digest})
		output = append(output, fmt.Sprintf("%s (%s)", images[name].Reference, strings.Join(images[name].Tags, ", ")))
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return PublishResult{
		Result: step.Result{
			Verdict:   graph.Passed,
			Metrics:   map[string]float64{"images": float64(len(images)), "tags": float64(len(pushes[0].published.Tags))},
			Artifacts: artifacts,
			Output:    strings.Join(output, "\n"),
			Reports:   c.Directory().WithNewFile("images.json", string(text)+"\n"),
		},
		Images: images,
	}
}
