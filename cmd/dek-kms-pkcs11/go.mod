// A Kubernetes KMS v2 plugin for keys on PKCS#11 tokens. It is a module of its own since it
// needs cgo, which nothing else of the repository does.
module github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11

go 1.26.0

toolchain go1.26.8

require (
	github.com/miekg/pkcs11 v1.1.2
	github.com/stretchr/testify v1.12.1
	github.com/vault-plugin-dek/vault-plugin-dek v0.0.0
	golang.org/x/net v0.61.0
	google.golang.org/grpc v1.84.0
	k8s.io/kms v0.37.2
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261012220534-4341edf3f941 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/vault-plugin-dek/vault-plugin-dek => ../..
