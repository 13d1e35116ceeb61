#!/usr/bin/env python3
"""Reference evaluator of the AWS IAM JSON policy language (stdlib only).

    evaluate.py [--explain] [CASES.jsonl]     (stdin when no file)

One JSON case a line in, one JSON answer a line out, same order.  Written to be
obviously right, not fast.  "GUIDE" = the IAM user guide, "RULE" = docs/policies.md,
"OWN" = decided here because neither says.

Decisions
---------
RULE 1  An unresolved variable (no default) anywhere in the Resource / NotResource /
         Condition values of a statement: the statement does not apply, whatever else
         matches (also when the condition's own key is missing, or under ...IfExists).
RULE 2  Several request values under a plain operator: positive = any request value
         matches any policy value; negated = the negation of that.
RULE 3  An empty list of context values = the key is absent.
RULE 4  A variable whose key has several values is unresolved (its default then counts).
RULE 5  NotPrincipal: Deny applies unless ALL forms of the caller are listed, Allow
         applies unless ANY form is listed and grants like "*".
RULE 6  Resource "*" or an ARN with an empty account part = the principal's own account.
RULE 7  Bool compares ignoring case.  Condition values: strings, numbers, booleans.
RULE 8  Unparsable number/date/IP/base64 in a policy = invalid policy; in the request =
         positive false, negated true (per request value, under set operators too).
RULE 9  Variables only in Resource/NotResource and in String*/Arn* operator values.
RULE 10 ArnEquals == ArnLike; a policy value that is no six-part ARN never matches,
         except plain "*".
RULE 11 Resource: "*" or "arn:" with six parts.  Action: "*" or service:name, no
         wildcard in the service.
RULE 12 Set operator or IfExists on Null: invalid.
RULE 13 Service / Federated principals are valid and never match.  Wildcard in a
         principal ARN: invalid.
OWN 1    ForAnyValue:...IfExists with the key absent: true (IfExists wins over ForAnyValue).
OWN 2    Patterns are split into ARN parts BEFORE variables are filled in, so a value's ':'
         never moves a part border; in the last part a value may hold ':'.  In an Arn*
         operator the same: "${key}" alone is no six-part ARN, so never matches.
OWN 3    A variable that resolves to "" is resolved (the default is not taken).
OWN 4    '*' and '?' inside a default value are literal, as inside any value.
OWN 5    Version 2008-10-17 / none: "${*}" etc. is plain text whose '*' and '?' keep their
         ordinary wildcard meaning wherever the place takes wildcards.
OWN 6    In 2012-10-17 a "${" that does not start a well-formed variable: invalid.
OWN 7    ARN wildcards are allowed in every part; a '*' that is the whole resource part
         matches any resource type .
OWN 8    ArnLike "*" (plain) matches any present request value, an ARN or not.
OWN 9    Numbers: [+-]?digits[.digits], compared exactly (no float rounding, no exponent,
         no inf/nan).  Dates: all digits = epoch seconds; YYYY-MM, YYYY-MM-DD, or
         YYYY-MM-DDThh:mm[:ss[.f]](Z|+hh:mm|-hh:mm); anything else unparsable.
OWN 10   BinaryEquals: both sides strict, padded, standard base64; bytes compared.
OWN 11   IpAddress: host bits in a policy CIDR are masked off; the request value must be
         a bare address or it is unparsable.  ::ffff:a.b.c.d is an IPv6 address.
OWN 12   Duplicate keys: the same spelling twice in one JSON object anywhere in a policy.
         Condition keys differing only in case are distinct entries, ANDed.
OWN 13   The role of a session is arn:PARTITION:iam::ACCOUNT:role/NAME (paths are lost).
OWN 14   Sids are compared case-sensitively, within one policy only.
OWN 15   Service and action name compare ignoring case; resources, partition and all ARN
         parts compare exactly.  StringEqualsIgnoreCase uses str.lower() (Unicode).
OWN 16   '?' is one Unicode code point.
OWN 17   Null takes true/false (any case, or JSON boolean); anything else is invalid.
         Several values under Null: OR.
OWN 18   Missing Effect/Action/Resource, both Action and NotAction, both Resource and
         NotResource, unknown elements, both Principal and NotPrincipal: invalid.
OWN 19   Explicit Deny in any policy given (identity, resource, boundary, session) wins,
         same account or cross-account.
OWN 20   Operator names are case-sensitive.  Several policy values under <, >, ... : any.
OWN 21   An empty list of condition values is valid and matches nothing.
OWN 22  A Bool policy value other than true/false is valid and just never equals; "" is valid
         base64 (no bytes) but no number, date or IP.  CanonicalUser never matches, either.
"""
import base64
import binascii
import ipaddress
import json
import re
import sys
from datetime import datetime, timedelta, timezone
from fractions import Fraction


class Invalid(Exception):
    pass


# ------------------------------------------------------------------ JSON
class Obj(dict):
    """A JSON object that remembers a repeated key."""
    dup = None


def _object(pairs):
    o = Obj()
    for k, v in pairs:
        if k in o:
            o.dup = k
        o[k] = v
    return o


def load(text):
    return json.loads(text, object_pairs_hook=_object)


def refuse_duplicates(x):
    if isinstance(x, dict):
        if getattr(x, "dup", None) is not None:
            raise Invalid("duplicate key %r" % x.dup)
        for v in x.values():
            refuse_duplicates(v)
    elif isinstance(x, list):
        for v in x:
            refuse_duplicates(v)


# ------------------------------------------------------------------ templates
# A template is a list of items:
#   ("c", ch)            a character of the policy's own text; '*' and '?' may be wildcards
#   ("lit", ch)          a literal character
#   ("var", key, dflt)   a variable; dflt None when there is no default
VARIABLE = re.compile(r"\$\{([*?$])\}|\$\{\s*([^,'{}]+?)\s*(?:,\s*'([^']*)'\s*)?\}")


def template(text, variables):
    items = []
    i = 0
    while i < len(text):
        if variables and text.startswith("${", i):
            m = VARIABLE.match(text, i)
            if not m:
                raise Invalid("malformed variable in %r" % text)
            if m.group(1) is not None:
                items.append(("lit", m.group(1)))
            else:
                items.append(("var", m.group(2), m.group(3)))
            i = m.end()
        else:
            items.append(("c", text[i]))
            i += 1
    return items


def split_arn_template(items):
    """The six parts (the last keeps further colons), or None."""
    parts = [[]]
    for it in items:
        if it == ("c", ":") and len(parts) < 6:
            parts.append([])
        else:
            parts[-1].append(it)
    if len(parts) != 6 or parts[0] != [("c", "a"), ("c", "r"), ("c", "n")]:
        return None
    return parts


def split_arn(text):
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return None
    return parts


def resolve(key, default, ctx):
    """The text a variable stands for, or None when unresolved."""
    values = ctx.get(key.lower())
    if values is not None and len(values) == 1:
        return values[0]
    return default


def unresolved(items, ctx):
    return any(it[0] == "var" and resolve(it[1], it[2], ctx) is None for it in items)


STAR, ANY = ("star",), ("any",)


def tokens(items, ctx, wildcards):
    """STAR, ANY or a literal character each."""
    out = []
    for it in items:
        if it[0] == "var":
            out.extend(resolve(it[1], it[2], ctx))
        elif it[0] == "c" and wildcards and it[1] == "*":
            out.append(STAR)
        elif it[0] == "c" and wildcards and it[1] == "?":
            out.append(ANY)
        else:
            out.append(it[1])
    return out


def glob(pattern, text):
    """Does the token list match the whole text?  Keeps the set of text positions
    reachable after each token."""
    at = {0}
    for t in pattern:
        if t is STAR:
            at = set(range(min(at), len(text) + 1))
        elif t is ANY:
            at = {p + 1 for p in at if p < len(text)}
        else:
            at = {p + 1 for p in at if p < len(text) and text[p] == t}
        if not at:
            return False
    return len(text) in at


PLAIN_STAR = [("c", "*")]


def arn_match(items, text, ctx):
    """Part by part; the plain "*" matches everything."""
    if items == PLAIN_STAR:
        return True
    pattern, value = split_arn_template(items), split_arn(text)
    if pattern is None or value is None:
        return False
    return all(glob(tokens(p, ctx, True), v) for p, v in zip(pattern, value))


# ------------------------------------------------------------------ values
class Unparsable(Exception):
    pass


def number(s):
    if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", s):
        raise Unparsable("number %r" % s)
    return Fraction(s)


DATE = re.compile(r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})"
                  r"(?::([0-9]{2})(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2}))?)?")


def date(s):
    """Seconds since the epoch, exactly."""
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", s):
        return Fraction(s)
    m = DATE.fullmatch(s)
    if not m:
        raise Unparsable("date %r" % s)
    y, mo, d, h, mi, sec, frac, zone = m.groups()
    try:
        t = datetime(int(y), int(mo), int(d or 1), int(h or 0), int(mi or 0), int(sec or 0),
                     tzinfo=timezone.utc)
    except ValueError as e:
        raise Unparsable("date %r: %s" % (s, e))
    offset = 0
    if zone and zone != "Z":
        if int(zone[1:3]) > 23 or int(zone[4:6]) > 59:
            raise Unparsable("date %r" % s)
        offset = (int(zone[1:3]) * 60 + int(zone[4:6])) * 60 * (-1 if zone[0] == "-" else 1)
    seconds = (t - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(seconds=1)
    return seconds - offset + (Fraction("0" + frac) if frac else 0)


def network(s):
    if not re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?", s):
        raise Unparsable("IP range %r" % s)
    try:
        return ipaddress.ip_network(s, strict=False)
    except ValueError:
        raise Unparsable("IP range %r" % s)


def address(s):
    if not re.fullmatch(r"[0-9A-Fa-f.:]+", s):
        raise Unparsable("IP address %r" % s)
    try:
        return ipaddress.ip_address(s)
    except ValueError:
        raise Unparsable("IP address %r" % s)


def binary(s):
    try:
        return base64.b64decode(s.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError, ValueError):
        raise Unparsable("base64 %r" % s)


# ------------------------------------------------------------------ operators
# One operator = (prepare a policy value, does one request value match one prepared value,
# negated).  `prepare` raises Unparsable -> invalid policy.  `match` raises Unparsable ->
# that request value matches nothing.
def _string(wildcards):
    return lambda items, v, ctx: glob(tokens(items, ctx, wildcards), v)


def _ignore_case(items, v, ctx):
    return "".join(tokens(items, ctx, False)).lower() == v.lower()


def _ordered(parse, test):
    return parse, lambda want, v, ctx: test(parse(v), want)


EQ = lambda a, b: a == b
TEXT = "text"            # prepared by template(), with variables
OPERATORS = {
    "StringEquals": (TEXT, _string(False), False),
    "StringNotEquals": (TEXT, _string(False), True),
    "StringEqualsIgnoreCase": (TEXT, _ignore_case, False),
    "StringNotEqualsIgnoreCase": (TEXT, _ignore_case, True),
    "StringLike": (TEXT, _string(True), False),
    "StringNotLike": (TEXT, _string(True), True),
    "ArnEquals": (TEXT, arn_match, False),
    "ArnLike": (TEXT, arn_match, False),
    "ArnNotEquals": (TEXT, arn_match, True),
    "ArnNotLike": (TEXT, arn_match, True),
    "Bool": (str, lambda want, v, ctx: want.lower() == v.lower(), False),
    "BinaryEquals": (*_ordered(binary, EQ), False),
    "IpAddress": (network, lambda net, v, ctx: address(v) in net, False),
    "NotIpAddress": (network, lambda net, v, ctx: address(v) in net, True),
}
for _family, _parse in (("Numeric", number), ("Date", date)):
    for _name, _test, _negated in (
            ("Equals", EQ, False), ("NotEquals", EQ, True),
            ("LessThan", lambda a, b: a < b, False),
            ("LessThanEquals", lambda a, b: a <= b, False),
            ("GreaterThan", lambda a, b: a > b, False),
            ("GreaterThanEquals", lambda a, b: a >= b, False)):
        OPERATORS[_family + _name] = (*_ordered(_parse, _test), _negated)


def value_text(v):
    """A policy condition value as text: strings, numbers and booleans."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, float)):
        return str(v)
    if isinstance(v, str):
        return v
    raise Invalid("condition value %r" % (v,))


class Condition:
    def __init__(self, operator, key, values, variables):
        self.key = key.lower()
        self.set, self.if_exists = None, False
        name = operator
        for prefix in ("ForAllValues", "ForAnyValue"):
            if operator.startswith(prefix + ":"):
                self.set, name = prefix, name[len(prefix) + 1:]
        if name.endswith("IfExists"):
            self.if_exists, name = True, name[:-len("IfExists")]
        if name == "Null":
            if self.set or self.if_exists:
                raise Invalid("unknown operator %r" % operator)
        elif name not in OPERATORS:
            raise Invalid("unknown operator %r" % operator)
        self.name = name
        texts = [value_text(v) for v in (values if isinstance(values, list) else [values])]
        self.templates = []
        if name == "Null":
            self.values = [t.lower() for t in texts]
            if any(t not in ("true", "false") for t in self.values):
                raise Invalid("Null takes true or false")
            return
        prepare, self.match, self.negated = OPERATORS[name]
        if prepare is TEXT:
            self.values = self.templates = [template(t, variables) for t in texts]
        else:
            try:
                self.values = [prepare(t) for t in texts]
            except Unparsable as e:
                raise Invalid(str(e))

    def holds(self, ctx):
        have = ctx.get(self.key)                     # None, or a non-empty list
        if self.name == "Null":
            return ("true" if have is None else "false") in self.values
        if have is None:
            if self.if_exists:
                return True
            if self.set == "ForAllValues":
                return True
            if self.set == "ForAnyValue":
                return False
            return self.negated
        if self.set == "ForAllValues":
            return all(self.one(v, ctx) for v in have)
        if self.set == "ForAnyValue":
            return any(self.one(v, ctx) for v in have)
        if self.negated:
            return not any(self.some(v, ctx) for v in have)
        return any(self.some(v, ctx) for v in have)

    def some(self, v, ctx):
        """Does one request value match any policy value (the positive test)?"""
        try:
            return any(self.match(want, v, ctx) for want in self.values)
        except Unparsable:
            return False

    def one(self, v, ctx):
        return self.some(v, ctx) != self.negated


# ------------------------------------------------------------------ principals
ACCOUNT = re.compile(r"[0-9]{12}")
P_ROOT = re.compile(r"arn:[^:]+:iam::([0-9]{12}):root")
P_USER = re.compile(r"arn:[^:]+:iam::[0-9]{12}:user/.+")
P_ROLE = re.compile(r"arn:[^:]+:iam::[0-9]{12}:role/.+")
P_SESSION = re.compile(r"arn:[^:]+:sts::[0-9]{12}:assumed-role/[^/]+/.+")


def strings(v, what):
    """A string, or a non-empty list of strings."""
    out = v if isinstance(v, list) else [v]
    if not out:
        raise Invalid("empty %s" % what)
    if not all(isinstance(s, str) for s in out):
        raise Invalid("%s must be strings" % what)
    return out


def parse_principal(p):
    """A set of ("any",) ("account", n) ("arn", text); Service and Federated give nothing."""
    if p == "*":
        return {("any",)}
    if not isinstance(p, dict) or not p:
        raise Invalid("Principal must be \"*\" or an object")
    out = set()
    for kind, value in p.items():
        names = strings(value, "Principal")
        if kind in ("Service", "Federated", "CanonicalUser"):
            continue
        if kind != "AWS":
            raise Invalid("unknown principal type %r" % kind)
        for s in names:
            root = P_ROOT.fullmatch(s)
            if s == "*":
                out.add(("any",))
            elif "*" in s or "?" in s:
                raise Invalid("wildcard in principal %r" % s)
            elif ACCOUNT.fullmatch(s):
                out.add(("account", s))
            elif root:
                out.add(("account", root.group(1)))
            elif P_USER.fullmatch(s) or P_ROLE.fullmatch(s) or P_SESSION.fullmatch(s):
                out.add(("arn", s))
            else:
                raise Invalid("principal %r" % s)
    return out


class Caller:
    def __init__(self, arn):
        self.arn = arn
        parts = arn.split(":", 5)
        self.account = parts[4]
        self.role = None
        if parts[2] == "sts" and parts[5].startswith("assumed-role/"):
            self.role = "arn:%s:iam::%s:role/%s" % (parts[1], self.account,
                                                    parts[5].split("/")[1])

    def forms(self):
        out = [("arn", self.arn), ("account", self.account)]
        if self.role:
            out.append(("arn", self.role))
        return out


# ------------------------------------------------------------------ statements
ELEMENTS = {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction",
            "Resource", "NotResource", "Condition"}


class Statement:
    def __init__(self, s, variables, is_resource_policy):
        if not isinstance(s, dict):
            raise Invalid("a statement must be an object")
        for k in s:
            if k not in ELEMENTS:
                raise Invalid("unknown element %r" % k)
        self.sid = s.get("Sid")
        if self.sid is not None and not (isinstance(self.sid, str) and
                                         re.fullmatch("[A-Za-z0-9]*", self.sid)):
            raise Invalid("Sid %r is not alphanumeric" % (self.sid,))
        if s.get("Effect") not in ("Allow", "Deny"):
            raise Invalid("Effect %r" % (s.get("Effect"),))
        self.effect = s["Effect"]

        # principals
        if "Principal" in s and "NotPrincipal" in s:
            raise Invalid("both Principal and NotPrincipal")
        self.principal = self.not_principal = None
        if is_resource_policy:
            if "Principal" in s:
                self.principal = parse_principal(s["Principal"])
            elif "NotPrincipal" in s:
                self.not_principal = parse_principal(s["NotPrincipal"])
            else:
                raise Invalid("a resource policy needs a Principal")
        elif "Principal" in s or "NotPrincipal" in s:
            raise Invalid("Principal in an identity policy")

        # actions
        if ("Action" in s) == ("NotAction" in s):
            raise Invalid("exactly one of Action and NotAction")
        self.not_action = "NotAction" in s
        self.actions = strings(s["NotAction" if self.not_action else "Action"], "Action")
        for a in self.actions:
            if a == "*":
                continue
            service, colon, name = a.partition(":")
            if not colon or not service or not name or ":" in name:
                raise Invalid("Action %r is not service:name" % a)
            if "*" in service or "?" in service:
                raise Invalid("wildcard in the service of Action %r" % a)

        # resources
        if ("Resource" in s) == ("NotResource" in s):
            raise Invalid("exactly one of Resource and NotResource")
        self.not_resource = "NotResource" in s
        self.resources = []
        for r in strings(s["NotResource" if self.not_resource else "Resource"], "Resource"):
            items = template(r, variables)
            if items != PLAIN_STAR and split_arn_template(items) is None:
                raise Invalid("Resource %r is no ARN" % r)
            self.resources.append(items)

        # conditions
        self.conditions = []
        block = s.get("Condition", {})
        if not isinstance(block, dict):
            raise Invalid("Condition must be an object")
        for operator, keys in block.items():
            if not isinstance(keys, dict):
                raise Invalid("Condition operator must hold an object")
            Condition(operator, "x", [], variables)      # an unknown operator, even if empty
            for key, values in keys.items():
                self.conditions.append(Condition(operator, key, values, variables))

    def applies(self, case):
        ctx = case.ctx
        for items in self.resources:
            if unresolved(items, ctx):
                return False
        for c in self.conditions:
            if any(unresolved(items, ctx) for items in c.templates):
                return False
        return (self.principal_matches(case) and self.action_matches(case.action)
                and self.resource_matches(case) and all(c.holds(ctx) for c in self.conditions))

    def action_matches(self, action):
        hit = any(glob(tokens(template(a.lower(), False), {}, True), action.lower())
                  for a in self.actions)
        return hit != self.not_action

    def resource_matches(self, case):
        hit = any(arn_match(items, case.resource, case.ctx) for items in self.resources)
        return hit != self.not_resource

    def principal_matches(self, case):
        forms = case.caller.forms()
        if self.principal is not None:
            return ("any",) in self.principal or any(f in self.principal for f in forms)
        if self.not_principal is not None:
            listed = [("any",) in self.not_principal or f in self.not_principal for f in forms]
            return not all(listed) if self.effect == "Deny" else not any(listed)
        return True

    def grant_levels(self, case):
        """How an applying Allow of a resource policy grants: direct, role, account."""
        if self.not_principal is not None or ("any",) in self.principal:
            return {"direct"}
        out = set()
        if ("arn", case.caller.arn) in self.principal:
            out.add("direct")
        if case.caller.role and ("arn", case.caller.role) in self.principal:
            out.add("role")
        if ("account", case.caller.account) in self.principal:
            out.add("account")
        return out


class Policy:
    def __init__(self, p, is_resource_policy=False):
        if not isinstance(p, dict):
            raise Invalid("a policy must be an object")
        refuse_duplicates(p)
        for k in p:
            if k not in ("Version", "Id", "Statement"):
                raise Invalid("unknown element %r" % k)
        version = p.get("Version", "2008-10-17")
        if version not in ("2008-10-17", "2012-10-17"):
            raise Invalid("Version %r" % (version,))
        if "Statement" not in p:
            raise Invalid("no Statement")
        list_ = p["Statement"] if isinstance(p["Statement"], list) else [p["Statement"]]
        self.statements = [Statement(s, version == "2012-10-17", is_resource_policy)
                           for s in list_]
        sids = [s.sid for s in self.statements if s.sid]
        if len(sids) != len(set(sids)):
            raise Invalid("repeated Sid")

    def applying(self, case, effect):
        return [s for s in self.statements if s.effect == effect and s.applies(case)]


# ------------------------------------------------------------------ a case
class Case:
    def __init__(self, c):
        self.identity = [Policy(p) for p in c.get("identity") or []]
        given = lambda name: c.get(name) is not None
        self.boundary = Policy(c["boundary"]) if given("boundary") else None
        self.session = Policy(c["session"]) if given("session") else None
        self.resource_policy = (Policy(c["resource_policy"], True)
                                if given("resource_policy") else None)
        self.caller = Caller(c["principal"])
        self.action = c["action"]
        self.resource = c["resource"]
        self.ctx = {}
        for k, v in (c.get("context") or {}).items():
            values = v if isinstance(v, list) else [v]
            if values:
                self.ctx[k.lower()] = values

    def decide(self):
        everything = self.identity + [p for p in (self.boundary, self.session,
                                                  self.resource_policy) if p]
        why = {}
        if any(p.applying(self, "Deny") for p in everything):
            return "explicitDeny", why

        identity = any(p.applying(self, "Allow") for p in self.identity)
        boundary = self.boundary is None or bool(self.boundary.applying(self, "Allow"))
        session = self.session is None or bool(self.session.applying(self, "Allow"))
        levels = set()
        if self.resource_policy:
            for s in self.resource_policy.applying(self, "Allow"):
                levels |= s.grant_levels(self)

        arn = split_arn(self.resource)
        owner = arn[4] if arn and arn[4] else self.caller.account
        same = owner == self.caller.account
        identity_side = identity and boundary and session
        if same:
            allowed = (identity_side or "direct" in levels
                       or ("role" in levels and boundary and session))
        else:
            allowed = identity_side and bool(levels)
        why = {"same_account": same, "identity": identity, "boundary": boundary,
               "session": session, "resource_grants": sorted(levels)}
        return ("allowed" if allowed else "implicitDeny"), why


def evaluate(case, explain=False):
    try:
        decision, why = Case(case).decide()
        answer = {"id": case.get("id"), "decision": decision}
        if explain:
            answer["why"] = why
        return answer
    except Invalid as e:
        return {"id": case.get("id"), "error": str(e)}


def main(argv):
    explain = "--explain" in argv
    files = [a for a in argv if not a.startswith("--")]
    source = open(files[0], encoding="utf-8") if files else sys.stdin
    for line in source:
        if line.strip():
            print(json.dumps(evaluate(load(line), explain), ensure_ascii=False))


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    main(sys.argv[1:])
