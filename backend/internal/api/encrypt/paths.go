// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encrypt

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

// Fields of the paths that encrypt and open for callers.
var (
	associatedDataField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Base64 of what belongs to the plaintext without being part of it: to open it, the same is needed. Line breaks are ignored.",
	}
	batchInputField = &framework.FieldSchema{
		Type: framework.TypeSlice,
		Description: "Up to 10,000 objects, each with what a single request has, and a reference that its result repeats. " +
			"The fields of a single request are then ignored.",
	}
	partialFailureField = &framework.FieldSchema{
		Type: framework.TypeInt,
		Description: "The HTTP status, from 200 to 599, of a batch of which some entries fail and some do not. " +
			"Those of answers without a body, 204, 205 and 304, are ignored. Default: 400, as if all fail.",
	}
	ciphertextField = &framework.FieldSchema{
		Type: framework.TypeString,
		Description: "What encrypt, rewrap or datakey answered, dek:v<version>:<base64>, or an envelope, " +
			"dek:v<version>:e1.<key>.<sealed>. Blanks and line breaks before and after it are ignored.",
	}
)

// encryptedAnswer describes what encrypt answers.
var encryptedAnswer = api.OK("The ciphertext, or for a batch one result for each entry.", map[string]*framework.FieldSchema{
	"ciphertext":    {Type: framework.TypeString, Description: "The ciphertext: dek:v<version>:<base64>."},
	"key_version":   {Type: framework.TypeInt, Description: "The version of the tenant's key that it is sealed by."},
	"batch_results": {Type: framework.TypeSlice, Description: "In order, each with ciphertext and key_version, or error; and reference."},
})

// rewrappedAnswer describes what rewrap answers.
var rewrappedAnswer = api.OK("The ciphertext, or for a batch one result for each entry.", map[string]*framework.FieldSchema{
	"ciphertext":    {Type: framework.TypeString, Description: "The ciphertext, in the form that it came in."},
	"key_version":   {Type: framework.TypeInt, Description: "The version of the tenant's key that it is sealed by."},
	"changed":       {Type: framework.TypeBool, Description: "Whether it is another than before: false only with only_if_older."},
	"batch_results": {Type: framework.TypeSlice, Description: "In order, each with ciphertext, key_version and changed, or error; and reference."},
})

// decryptedAnswer describes what decrypt answers.
var decryptedAnswer = api.OK("The plaintext, or for a batch one result for each entry.", map[string]*framework.FieldSchema{
	"plaintext":     {Type: framework.TypeString, Description: "Base64 of the plaintext."},
	"lease":         {Type: framework.TypeInt, Description: "Of a data key for envelopes or files: seconds that it may go on being used."},
	"batch_results": {Type: framework.TypeSlice, Description: "In order, each with plaintext, and lease, or error; and reference."},
})

func (p *paths) encryptPaths() []*framework.Path {
	return []*framework.Path{
		{
			Pattern: api.TenantPattern + "/encrypt$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id":                     api.TenantIDField,
				"plaintext":                     {Type: framework.TypeString, Description: "Base64 of what is to be encrypted, of 767 KiB at most. Line breaks are ignored."},
				"associated_data":               associatedDataField,
				"batch_input":                   batchInputField,
				"partial_failure_response_code": partialFailureField,
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: p.On(p.encrypt, "encrypt", "Encrypt under a tenant's key.", encryptedAnswer),
			},
			HelpSynopsis: "Encrypt under a tenant's key.",
			HelpDescription: "The ciphertext is kept by the caller. It opens for this tenant alone, with the same " +
				"associated_data, until its version of the key is destroyed: a rotation does not do that. The associated_data " +
				"of data keys, vault-plugin-dek/data-key/v1 and vault-plugin-dek/file-key/v1, are refused.",
		},
		{
			Pattern: api.TenantPattern + "/decrypt$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id":                     api.TenantIDField,
				"ciphertext":                    ciphertextField,
				"associated_data":               associatedDataField,
				"batch_input":                   batchInputField,
				"partial_failure_response_code": partialFailureField,
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: p.On(p.decrypt, "decrypt", "Open a ciphertext of a tenant.", decryptedAnswer),
			},
			HelpSynopsis: "Open a ciphertext of a tenant.",
			HelpDescription: "Of any version that is not destroyed, nor below the tenant's min_decryption_version. It takes " +
				"envelopes too, which clients seal themselves under data keys. Of the data keys of envelopes and files, which " +
				"their associated_data tell, it answers the lease as well, as datakey does.",
		},
		{
			Pattern: api.TenantPattern + "/rewrap$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id":                     api.TenantIDField,
				"ciphertext":                    ciphertextField,
				"associated_data":               associatedDataField,
				"batch_input":                   batchInputField,
				"partial_failure_response_code": partialFailureField,
				"only_if_older": {
					Type: framework.TypeBool,
					Description: "Leave a ciphertext of the active version as it is, once it has been seen to open. An entry of " +
						"a batch may say otherwise for itself.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: p.On(p.rewrap, "rewrap", "Bring a ciphertext to the active version.", rewrappedAnswer),
			},
			HelpSynopsis: "Bring a ciphertext to the active version of a tenant's key.",
			HelpDescription: "The plaintext does not leave the engine. A ciphertext that is on the active version is " +
				"sealed afresh, unless only_if_older is true. associated_data is needed as for decrypt, and stays the same. " +
				"Envelopes are sealed afresh under another data key. Of a file it takes the first line, " +
				"dek:v<version>:s1.<key>, without associated_data; the rest of the file stays as it is.",
		},
	}
}

func (p *paths) encrypt(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, batch, err := parseTexts(d, "plaintext")
	if err != nil {
		return nil, err
	}
	p.touch()
	sealed, err := p.engine.Seal(ctx, id, batch.plaintexts())
	if err != nil {
		return nil, err
	}
	batch.setSealed(sealed)
	return batch.answer(req)
}

func (p *paths) decrypt(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, batch, err := parseTexts(d, "ciphertext")
	if err != nil {
		return nil, err
	}
	p.touch()
	opened, err := p.engine.Open(ctx, id, batch.ciphertexts())
	if err != nil {
		return nil, err
	}
	batch.setOpened(opened)
	return batch.answer(req)
}

func (p *paths) rewrap(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, batch, err := parseTexts(d, "ciphertext")
	if err != nil {
		return nil, err
	}
	if err := batch.parseOnlyIfOlder(d); err != nil {
		return nil, err
	}
	p.touch()
	sealed, err := p.engine.Rewrap(ctx, id, batch.ciphertexts())
	if err != nil {
		return nil, err
	}
	batch.setRewrapped(sealed)
	return batch.answer(req)
}

// parseTexts reads whose texts a request has, and the texts.
func parseTexts(d *framework.FieldData, field string) (id string, texts *batch, err error) {
	if id, err = api.TenantID(d); err != nil {
		return "", nil, err
	}
	texts, err = parseBatch(d, field)
	return id, texts, err
}
