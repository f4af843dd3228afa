//! Settings: how the tenant is read from a user name, and what is bound.
//! Knows nothing of how it is bound.

use super::{Form, Section, Setting, set};
use crate::config::value::{context_variables, list, separator};

pub(super) const SECTION: Section = Section {
    title: "The tenant",
    settings: &[
        Setting {
            name: "tenant_separator",
            environment: "MULTIGRES_TENANT_SEPARATOR",
            form: Form::Text,
            default: ".",
            summary: "separates role and tenant in a user name",
            doc: "Separates the role from the tenant in a user name: `app_user.acme` is the role
                `app_user` and the tenant `acme`. The first separator in the name counts.

                Change it when names of roles contain a dot.",
            parse: |draft, text| set(&mut draft.policy().tenant_separator, separator(text)),
        },
        Setting {
            name: "context_variables",
            environment: "MULTIGRES_CONTEXT_VARIABLES",
            form: Form::Parameters,
            default: "app.current_tenant_id",
            summary: "parameters that are bound, one for each value in the user name",
            doc:
                "The custom parameters of PostgreSQL that are bound to each session, in the order of
                the values in the user name. Each name has at least one dot in it. A login needs one
                value for each of them. `current_tenant_id()` reads `app.current_tenant_id`, and
                `multigres_context('app.current_list_id')` reads any other one.

                Change it when a row belongs to more than one dimension. With

                    context_variables = app.current_list_id,app.current_user_id

                the login `app_user.list123:user456` binds both. Protect a column for each, with
                `multigres_protect('items', 'list_id', 'app.current_list_id')`.",
            parse: |draft, text| {
                set(&mut draft.policy().context_variables, context_variables(text))
            },
        },
        Setting {
            name: "value_separator",
            environment: "MULTIGRES_VALUE_SEPARATOR",
            form: Form::Text,
            default: ":",
            summary: "separates two values in a user name",
            doc: "Separates the values of two context variables in a user name. Neither separator
                may contain the other.

                Change it when names of tenants contain a colon.",
            parse: |draft, text| set(&mut draft.policy().value_separator, separator(text)),
        },
        Setting {
            name: "superuser_bypass",
            environment: "MULTIGRES_SUPERUSER_BYPASS",
            form: Form::Users,
            default: "postgres",
            summary: "users who log in without a tenant",
            doc:
                "Users who are connected to PostgreSQL as they are: they have no tenant, nothing is
                bound, and nothing is checked. PostgreSQL alone decides which rows they see. They
                are for administrators and migrations, never for an application.

                PostgreSQL may take Multigres itself for such a user, when `upstream_host` is a
                unix socket or `upstream_tls_cert` is set. They are then refused if PostgreSQL lets
                them in without a password, as its methods `peer`, `cert` and `trust` do.

                Change it when other users administer the database, or set it to nothing so that
                every login needs a tenant.",
            parse: |draft, text| set(&mut draft.policy().superuser_bypass, list(text)),
        },
    ],
};
