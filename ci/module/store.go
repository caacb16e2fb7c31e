package main

import (
	"cmp"
	"context"
	"strings"

	sdk "dagger.io/dagger"
	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// access is how stores are reached, whichever they are.
type access struct {
	endpoint, region, azureEndpoint, registryUser string
	// secrets by the names of the environment variables that the library knows them by.
	secrets map[string]*dagger.Secret
}

// open returns the bucket or the repository of an address.
func (a access) open(ctx context.Context, c *sdk.Client, in pipelines.Inputs, address string) (store.Store, error) {
	if err := store.CheckAddress(address); err != nil {
		return nil, usageError{err}
	}
	if store.IsRegistry(address) {
		return a.registry(ctx, c, address)
	}
	return a.bucket(ctx, c, in, address)
}

// source returns what tables can be read from at an address.
func (a access) source(ctx context.Context, c *sdk.Client, in pipelines.Inputs, address string) (store.Source, error) {
	if err := store.CheckSource(address); err != nil {
		return nil, usageError{err}
	}
	if store.IsRegistry(address) {
		return a.registry(ctx, c, address)
	}
	return a.bucket(ctx, c, in, address)
}

func (a access) registry(ctx context.Context, c *sdk.Client, address string) (store.Registry, error) {
	const password = "REGISTRY_PASSWORD"
	given, err := a.credentials(ctx, c, []string{password})
	return store.Registry{Client: c, Address: address, User: a.registryUser, Password: given[password]}, err
}

func (a access) bucket(ctx context.Context, c *sdk.Client, in pipelines.Inputs, address string) (store.Bucket, error) {
	b := store.Bucket{Client: c, URL: address, Endpoint: in.Project.Artifacts.EndpointOf(address)}
	switch kind, _, _ := strings.Cut(address, "://"); kind {
	case "s3":
		b.Endpoint = cmp.Or(a.endpoint, b.Endpoint)
		b.Region = cmp.Or(a.region, in.Project.Artifacts.Region)
	case "az":
		b.Endpoint = cmp.Or(a.azureEndpoint, b.Endpoint)
	}
	var err error
	b.Credentials, err = a.credentials(ctx, c, store.BucketVariables)
	return b, err
}

// credentials returns those of the secrets that were given, as the library takes them.
func (a access) credentials(ctx context.Context, c *sdk.Client, variables []string) (map[string]*sdk.Secret, error) {
	all := map[string]*sdk.Secret{}
	for _, variable := range variables {
		secret := a.secrets[variable]
		if secret == nil {
			continue
		}
		id, err := secret.ID(ctx)
		if err != nil {
			return nil, err
		}
		all[variable] = c.LoadSecretFromID(sdk.SecretID(id))
	}
	return all, nil
}
