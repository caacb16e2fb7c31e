package engine

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/distribution/reference"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// Prefetch has the embedded engine's registry make the stand-ins among the images, those that are not there yet.
// Otherwise they would be made while the engine waits for them, and it does not wait for as long as the largest take.
// An image that can't be made is no error here: whatever pulls it fails, and says so.
func (e *Engine) Prefetch(ctx context.Context, images []string) {
	if e.Registry == "" {
		return
	}
	var wg sync.WaitGroup
	for _, image := range images {
		named, err := reference.ParseDockerRef(image)
		if err != nil || reference.Domain(named) != "docker.io" {
			continue
		}
		tagged, ok := named.(reference.Tagged)
		if !ok {
			continue
		}
		repository := reference.Path(named)
		if _, ok := embedded.FindRecipe(repository + ":" + tagged.Tag()); !ok {
			continue
		}
		wg.Go(func() {
			task := e.embedded.Progress.Start("make the image " + strings.TrimPrefix(image, "docker.io/") + ", only the first time")
			task.End(e.head(ctx, fmt.Sprintf("http://%s/v2/%s/manifests/%s?ns=docker.io", e.Registry, repository, tagged.Tag())))
		})
	}
	wg.Wait()
}

// head asks for a manifest, and with it for the image to be made.
func (e *Engine) head(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the registry answers %s", resp.Status)
	}
	return nil
}
