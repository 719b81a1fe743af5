package x509

import "moonseal/runtime/bind"

// Types describes this package's structs for the modules that hand them to scripts.
func Types() []*bind.Type {
	return []*bind.Type{
		bind.Table[Certificate]("x509.Certificate", "A certificate and, if known, its chain."),
		bind.Table[CSR]("x509.CSR", "A certificate signing request (PKCS #10)."),
	}
}
