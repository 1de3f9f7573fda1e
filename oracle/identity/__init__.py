"""Who somebody is, from a token of an identity provider or from headers of a gateway.  It knows no HTTP framework."""
