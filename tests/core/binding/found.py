"""What the check of arguments finds."""

import re

from audiozen_core.binding.arguments import check_arguments
from audiozen_core.binding.signature import signature_of


def check(target, args, **options):
    return check_arguments(signature_of(target), args, **options)


def findings(target, args, **options):
    """Returns each finding as a pair: the code, and the argument in the message."""
    found = check(target, args, **options)
    return [(finding.code, re.search("argument `(.*?)`", finding.message)[1]) for finding in found]


def the_finding(target, args, **options):
    (found,) = check(target, args, **options)
    return found
