//! Settings: TLS with clients, and TLS with PostgreSQL.
//! Knows nothing of which of them fit together: `config/tls.rs` does.

use super::{Form, Section, Setting, set, unless_empty, words};
use crate::config::tls::{
    CLIENT_CERTS, CLIENT_TLS, TLS_STARTS, UPSTREAM_TLS, certificates, key, roots,
};
use crate::config::value::word;

pub(super) const SECTION: Section = Section {
    title: "TLS",
    settings: &[
        Setting {
            name: "tls_cert",
            environment: "MULTIGRES_TLS_CERT",
            form: Form::File,
            default: "",
            summary: "PEM file with the certificate that clients are shown",
            doc:
                "PEM file with the certificate that clients are shown, followed by the certificates
                between it and its CA. Its key is RSA, ECDSA (P-256, P-384) or Ed25519. Empty means
                no TLS for clients. At the start and with `--check` there is a warning when the
                certificate has expired or will expire within 30 days.

                Set it when clients connect over a network.",
            parse: |draft, text| set(&mut draft.tls.cert, unless_empty(text, certificates)),
        },
        Setting {
            name: "tls_key",
            environment: "MULTIGRES_TLS_KEY",
            form: Form::File,
            default: "",
            summary: "PEM file with the key of `tls_cert`",
            doc:
                "PEM file with the key of `tls_cert`, not encrypted. Only the owner of the file may
                have access to it; a file of root's may be readable for its group.

                Set it together with `tls_cert`.",
            parse: |draft, text| set(&mut draft.tls.key, unless_empty(text, key)),
        },
        Setting {
            name: "tls",
            environment: "MULTIGRES_TLS",
            form: Form::Word(&words(&CLIENT_TLS)),
            default: "",
            summary: "whether clients use TLS; `allow` once `tls_cert` is set",
            doc: "- `disable`: clients are not offered TLS.
                - `allow`: clients choose. libpq takes TLS by default.
                - `require`: a login without TLS is refused, except through a unix socket, which
                  never has TLS.

                Empty means `allow` when `tls_cert` is set, and `disable` when it is not.

                Set it to `require` when clients connect over a network.",
            parse: |draft, text| {
                set(&mut draft.tls.client, unless_empty(text, |text| word(text, &CLIENT_TLS)))
            },
        },
        Setting {
            name: "tls_client_ca",
            environment: "MULTIGRES_TLS_CLIENT_CA",
            form: Form::File,
            default: "",
            summary: "PEM file with the CAs of clients' certificates",
            doc: "PEM file with the CAs of clients' certificates. With it, clients are asked for a
                certificate. It proves that the client is one of yours; PostgreSQL still
                authenticates the user. It needs `tls = require` or `tls_client_cert = request`,
                since a client without TLS shows no certificate.

                Set it when only machines that have a certificate of yours may connect.",
            parse: |draft, text| set(&mut draft.tls.client_ca, unless_empty(text, roots)),
        },
        Setting {
            name: "tls_client_cert",
            environment: "MULTIGRES_TLS_CLIENT_CERT",
            form: Form::Word(&words(&CLIENT_CERTS)),
            default: "",
            summary: "whether clients need a certificate; `require` once `tls_client_ca` is set",
            doc: "- `request`: a client need not show a certificate, but a wrong one is refused.
                - `require`: a client without a certificate is refused.

                Empty means `require` when `tls_client_ca` is set.

                Set it to `request` while certificates are being given to clients.",
            parse: |draft, text| {
                let cert = unless_empty(text, |text| word(text, &CLIENT_CERTS));
                set(&mut draft.tls.client_cert, cert)
            },
        },
        Setting {
            name: "upstream_tls",
            environment: "MULTIGRES_UPSTREAM_TLS",
            form: Form::Word(&words(&UPSTREAM_TLS)),
            default: "",
            summary: "TLS with PostgreSQL; `prefer` over a network, else `disable`",
            doc: "TLS between Multigres and PostgreSQL, in the words of libpq's `sslmode`:

                - `disable`: no TLS.
                - `prefer`: TLS if PostgreSQL offers it. This protects against somebody who
                  listens, not against somebody who answers in PostgreSQL's place.
                - `require`: no login without TLS. PostgreSQL's certificate is not verified, unless
                  `upstream_tls_ca` is set: then as with `verify-ca`.
                - `verify-ca`: the certificate must come from a CA in `upstream_tls_ca`.
                - `verify-full`: its subjectAltName must also contain the name or address in
                  `upstream_host`. A common name alone does not count.

                The last two need a certificate of X.509 version 3. A certificate that is itself in
                `upstream_tls_ca` is accepted; those that it has signed are accepted only if it is
                a CA's. A unix socket never has TLS.

                Empty means `disable` when `upstream_host` is a loopback address, `localhost` or a
                unix socket, where nobody can listen, and `prefer` otherwise.

                Set it to `verify-full` when PostgreSQL is reached over a network.",
            parse: |draft, text| {
                set(&mut draft.tls.upstream, unless_empty(text, |text| word(text, &UPSTREAM_TLS)))
            },
        },
        Setting {
            name: "upstream_tls_ca",
            environment: "MULTIGRES_UPSTREAM_TLS_CA",
            form: Form::File,
            default: "",
            summary: "PEM file with the CAs of PostgreSQL's certificate",
            doc: "PEM file with the CAs of PostgreSQL's certificate. Empty means that `verify-full`
                uses the CAs of the system.

                Set it when a CA of your own has signed PostgreSQL's certificate.",
            parse: |draft, text| set(&mut draft.tls.upstream_ca, unless_empty(text, roots)),
        },
        Setting {
            name: "upstream_tls_cert",
            environment: "MULTIGRES_UPSTREAM_TLS_CERT",
            form: Form::File,
            default: "",
            summary: "PEM file with a certificate to show to PostgreSQL",
            doc:
                "PEM file with a certificate that is shown to PostgreSQL when it asks for one. Every
                session shows the same.

                Set it when a line of `pg_hba.conf` asks for one, by `clientcert` or by the method
                `cert`.",
            parse: |draft, text| {
                set(&mut draft.tls.upstream_cert, unless_empty(text, certificates))
            },
        },
        Setting {
            name: "upstream_tls_key",
            environment: "MULTIGRES_UPSTREAM_TLS_KEY",
            form: Form::File,
            default: "",
            summary: "PEM file with the key of `upstream_tls_cert`",
            doc: "PEM file with the key of `upstream_tls_cert`, with the same rules as `tls_key`.

                Set it together with `upstream_tls_cert`.",
            parse: |draft, text| set(&mut draft.tls.upstream_key, unless_empty(text, key)),
        },
        Setting {
            name: "upstream_tls_negotiation",
            environment: "MULTIGRES_UPSTREAM_TLS_NEGOTIATION",
            form: Form::Word(&words(&TLS_STARTS)),
            default: "postgres",
            summary: "how TLS with PostgreSQL begins",
            doc: "- `postgres`: Multigres asks PostgreSQL for TLS first.
                - `direct`: TLS begins with the first byte, which saves a round trip. It needs
                  PostgreSQL 17 or newer, and `upstream_tls` must be `require`, `verify-ca` or
                  `verify-full`.

                Change it when logins over a slow network should be faster.",
            parse: |draft, text| set(&mut draft.tls.start, word(text, &TLS_STARTS)),
        },
    ],
};
