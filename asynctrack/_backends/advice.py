"""What to change when AWS, or something on the way to it, says no: one table for all who tell.

Keyed by the code of the error: S3's and SageMaker's own, the names of botocore's exceptions, and
those of ``aws_errors`` and ``acknowledge``. What is here waits for somebody, so it is told at
once; what passes by itself needs no advice.
"""

from __future__ import annotations

from typing import Final

BETWEEN: Final = (
    "Look for what answers in its place between here and AWS: a proxy (HTTPS_PROXY, NO_PROXY), the"
    " sign-in page of a network, a filter, a load balancer, a wrong endpoint_url."
)

_CREDENTIALS: Final = (
    "Renew or correct the AWS credentials; each attempt asks for those that are valid then."
)
_REGION: Final = "Correct the region of the Run's session: it must be the bucket's."
_ADDRESS: Final = (
    "Correct how S3 is reached: region, endpoint_url and addressing_style of the Run's session."
)
_BUCKET: Final = "Create the bucket, or name another with bucket=…"
_OPTIONS: Final = "Correct s3_options=…: the bucket does not take them, or lacks one it demands."
_ENCRYPTION: Final = (
    "Correct ServerSideEncryption and SSEKMSKeyId in s3_options=…, or let the program use the KMS"
    " key (kms:GenerateDataKey, kms:Decrypt)."
)
_ACCOUNT: Final = "The owner of the AWS account has to mend it."
_CERTIFICATE: Final = (
    "Where a proxy of your own ends TLS, name its certificates in AWS_CA_BUNDLE or in ca_bundle of"
    " the AWS profile; otherwise somebody listens in. Nothing was sent but the handshake."
)

_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    _CREDENTIALS: (
        "CredentialRetrievalError", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature",
        "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSecurity",
        "InvalidSignatureException", "InvalidToken", "MetadataRetrievalError",
        "MissingAuthenticationToken", "MissingSecurityHeader",
        "NoAuthTokenError", "NotSignedUp", "OptInRequired", "PartialCredentialsError", "SSOError",
        "SSOTokenLoadError", "SignatureDoesNotMatch", "TokenRefreshRequired",
        "TokenRetrievalError", "UnauthorizedSSOTokenError", "UnrecognizedClientException",
    ),
    "Configure AWS credentials; each attempt looks for them anew.": ("NoCredentialsError",),
    "Name a profile that is in the AWS configuration.": ("ProfileNotFound",),
    "Correct the AWS configuration file.": ("ConfigParseError", "InvalidConfigError"),
    "Allow s3:PutObject on the prefix ('asynctrack guide permissions' has a policy); a bucket"
    " policy may also demand an encryption, which s3_options=… asks for.": (
        "AccessDenied", "UnauthorizedAccess",
    ),
    "Allow sagemaker:UpdateTrialComponent, DescribeTrialComponent and BatchPutMetrics:"
    " 'asynctrack guide permissions' has a policy.": ("AccessDeniedException", "NotAuthorized"),
    _ACCOUNT: ("AccountProblem", "AllAccessDisabled", "InvalidPayer"),
    "Add RequestPayer='requester' to s3_options=…": ("RequesterPays", "RequestPayerRequired"),
    _REGION: (
        "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegionError",
        "InvalidRegionName", "NoRegionError", "PermanentRedirect",
    ),
    _ADDRESS: (
        "AuthorizationQueryParametersError", "EndpointProviderError",
        "InvalidEndpointConfigurationError", "InvalidHostHeader", "InvalidS3AddressingStyleError",
        "MethodNotAllowed", "NoSuchAccessPoint", "UnknownEndpointError", "UnsupportedS3ArnError",
        "UnsupportedS3AccesspointConfigurationError", "UnsupportedS3ConfigurationError",
    ),
    _BUCKET: ("InvalidBucketName", "NoSuchBucket"),
    "Correct the bucket's name, or s3_options=…": (
        "InvalidArgument", "InvalidRequest", "ParamValidationError", "UnknownParameterError",
    ),
    _OPTIONS: (
        "AccessControlListNotSupported", "InvalidStorageClass", "InvalidTag", "NotImplemented",
        "UnsupportedArgument",
    ),
    _ENCRYPTION: (
        "InvalidEncryptionAlgorithmError", "InvalidEncryptionMethod",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    _CERTIFICATE: ("CertificateError",),
    "The proxy refuses: look at the address, user name and password in HTTPS_PROXY.": (
        "ProxyConnectionError",
    ),
    BETWEEN: ("NotS3", "NotSageMaker", "Unacknowledged"),
    "Something on the way takes no requests of this size: look at the limits of a proxy, or make"
    " max_batch_bytes smaller.": ("413",),
}  # fmt: skip

_TABLE: Final = {code: text for text, codes in _GROUPS.items() for code in codes}


def advice_for(code: str) -> str:
    """Return what to change, as sentences; empty where nobody knows.

    Args:
        code: The code of an error.
    """
    return _ENCRYPTION if code.startswith("KMS.") else _TABLE.get(code, "")
