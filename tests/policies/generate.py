#!/usr/bin/env python3
"""Random case generator:  generate.py SEED COUNT [--no-dup] [--no-invalid]

Prints one JSON case a line (see evaluate.py).  Same SEED and COUNT = same cases.
A duplicate JSON key (one of the invalid kinds) is really repeated in the line's text;
--no-dup leaves that kind out for harnesses whose parser cannot keep it.
The evaluator is used only to steer towards a third each of the three decisions and to
check that valid cases are valid and invalid ones are not.
"""
import base64
import json
import random
import re
import sys

from evaluate import evaluate, load

A, B = "111122223333", "444455556666"
ACTIONS = ["kafka-cluster:" + a for a in (
    "Connect", "DescribeCluster", "AlterCluster", "ReadData", "WriteData", "CreateTopic",
    "DescribeTopic", "DescribeTopicDynamicConfiguration", "AlterTopicDynamicConfiguration",
    "AlterGroup", "DeleteGroup", "DescribeTransactionalId", "WriteDataIdempotently")] + [
    "billing:ReadInvoice", "s3:GetObject"]
NAMES = ["orders", "orders.eu", "order", "red", "blue", "alice", "*", "a?c", "abc", "a:b",
         "team/x", "ünï", "Orders", "", "o*s", "${*}", "${aws:username}", "日本"]
TAGS = ["red", "blue", "Red", "*", "?ed", "", "ünï", "ÜNÏ", "a:b", "team/x", "orders", "r*d",
        "o*", "alice", "日本"]
USERS = ["user/alice", "user/bob", "user/team/carol"]
SESSIONS = ["assumed-role/Writer/s1", "assumed-role/Writer/s2", "assumed-role/Reader/s1",
            "assumed-role/Reader/alice@example.com"]
ARNS = ["arn:aws:kafka:us-east-1:%s:cluster/demo/u-1" % A,
        "arn:aws:kafka:us-east-1:%s:topic/demo/u-1/orders" % A,
        "arn:aws:kafka:eu-west-1:%s:topic/demo/u-1/a:b" % B,
        "arn:aws:s3:::bucket/red/*", "arn:aws:s3:::bucket/a:b",
        "arn:aws:iam::%s:user/alice" % A, "arn:aws:iam::%s:role/Writer" % A]
# the same instants, spelled differently; index = order in time
INSTANTS = [
    ["2023-12-31T23:59:59Z", "1704067199", "2024-01-01T01:59:59+02:00"],
    ["2024-01-01", "2024-01-01T00:00:00Z", "1704067200", "2024-01-01T00:00Z",
     "2023-12-31T19:00:00-05:00", "2024-01-01T05:30:00+05:30"],
    ["2024-01-01T00:00:00.500Z", "2024-01-01T02:00:00.5+02:00"],
    ["2024-01-01T00:00:01Z", "1704067201", "2024-01-01T00:00:01.000Z"],
    ["2024-02-29", "2024-02-29T00:00:00Z", "1709164800"],
    ["1970-01-01", "0", "1970-01-01T00:00:00Z"],
]
NUMBERS = ["0", "5", "5.0", "-3", "10", "10.50", "10.5", "9", "100", "05", "-3.25", "300"]
IPS = ["10.1.2.3", "10.1.2.4", "192.168.0.1", "0.0.0.0", "255.255.255.255", "2001:db8::1",
       "2001:0db8:0:0::1", "2001:db9::5", "::1", "fe80::A"]
NETS = ["10.1.2.3", "10.1.2.3/32", "10.0.0.0/8", "10.1.2.0/24", "10.1.2.9/30", "0.0.0.0/0", "::/0",
        "2001:db8::/32", "2001:DB8::1", "2001:db8::1/128", "192.168.0.0/16", "::1/127",
        "128.0.0.0/1"]
BLOBS = [base64.b64encode(b).decode() for b in
         (b"abc", b"abd", b"\x00\xff", b"", b"hello!", b"\xfb\xff\xbf")]

KEYS = {   # canonical spelling -> type
    "aws:PrincipalTag/team": "string", "aws:PrincipalTag/Cost Center": "string",
    "aws:ResourceTag/env": "string", "aws:username": "string", "aws:UserAgent": "string",
    "aws:RequestedRegion": "string",
    "aws:TagKeys": "strings", "aws:PrincipalOrgPaths": "strings",
    "aws:SourceIp": "ip", "aws:CurrentTime": "date", "aws:EpochTime": "date",
    "aws:SecureTransport": "bool", "aws:MultiFactorAuthPresent": "bool",
    "aws:MultiFactorAuthAge": "number", "kafka-cluster:count": "number",
    "kafka-cluster:blob": "binary", "aws:SourceArn": "arn", "aws:PrincipalArn": "arn",
}
STRING_OPS = ["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase",
              "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"]
SIX = ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]
OPS = {"string": STRING_OPS, "strings": STRING_OPS,
       "ip": ["IpAddress", "NotIpAddress"], "bool": ["Bool"], "binary": ["BinaryEquals"],
       "date": ["Date" + s for s in SIX], "number": ["Numeric" + s for s in SIX],
       "arn": ["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"]}
# operators of the types which have few get the weight of their type, not of their number
TYPE_WEIGHT = {"string": 28, "strings": 12, "ip": 9, "bool": 6, "binary": 4, "date": 13,
               "number": 13, "arn": 15}


class Gen:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def p(self, x):
        return self.r.random() < x

    def pick(self, xs):
        return self.r.choice(xs)

    def weighted(self, pairs):
        return self.r.choices([x for x, _ in pairs], [w for _, w in pairs])[0]

    def recase(self, s):
        return self.weighted([(s, 5), (s.lower(), 2), (s.upper(), 2), (s.swapcase(), 1)])

    def one_or_list(self, xs):
        return xs[0] if len(xs) == 1 and self.p(0.6) else xs

    # ---------------------------------------------------------------- request
    def value(self, type_):
        if type_ in ("string", "strings"):
            return self.pick(TAGS)
        if self.p(0.06):                                   # unparsable in the request
            return self.pick(["", "garbage", "1.2.3", "*", "arn:aws:kafka", "10.0.0.256",
                              "2024-13-01", "!!!!", "inf", "1x", "yes"])
        if type_ == "ip":
            return self.pick(IPS)
        if type_ == "date":
            return self.pick(self.pick(INSTANTS))
        if type_ == "bool":
            return self.pick(["true", "false", "True", "FALSE"])
        if type_ == "number":
            return self.pick(NUMBERS)
        if type_ == "binary":
            return self.pick(BLOBS)
        return self.pick(ARNS)

    def context(self):
        ctx = {}
        for key, type_ in KEYS.items():
            if not self.p(0.72):
                continue
            if key == "aws:RequestedRegion":
                v = self.pick(["us-east-1", "eu-west-1", "*"])
            elif key == "aws:username" and self.p(0.7):
                v = self.pick(["alice", "bob"])
            else:
                v = self.value(type_)
            multi = 0.75 if type_ == "strings" else 0.16
            if self.p(multi):
                v = [self.value(type_) for _ in range(self.weighted([(0, 1), (1, 2), (2, 4), (3, 2)]))]
            ctx[self.recase(key) if self.p(0.5) else key] = v
        items = list(ctx.items())
        self.r.shuffle(items)
        return dict(items)

    def resource(self, ctx, account):
        if self.p(0.03):
            return "*"
        if self.p(0.06):
            return self.pick(["arn:aws:s3:::bucket/", "arn:aws:kafka:us-east-1::topic/demo/u-1/"]) \
                + self.pick(NAMES)
        singles = [v for v in ctx.values() if isinstance(v, str) and len(v) < 12]
        name = self.pick(singles) if singles and self.p(0.35) else self.pick(NAMES)
        kind = self.weighted([("topic", 5), ("group", 3), ("transactional-id", 1), ("cluster", 2),
                              ("widget", .3)])
        last = "%s/%s/%s" % (kind, self.pick(["demo", "prod"]), self.pick(["u-1", "abc-2"]))
        if kind != "cluster":
            last += "/" + name
        return "arn:aws:kafka:%s:%s:%s" % (self.weighted([("us-east-1", 6), ("eu-west-1", 3), ("", .5)]),
                                           account, last)

    def request(self):
        ctx = self.context()
        account = A if self.p(0.85) else B
        if self.p(0.5):
            principal = "arn:aws:iam::%s:%s" % (account, self.pick(USERS))
        else:
            principal = "arn:aws:sts::%s:%s" % (account, self.pick(SESSIONS))
        owner = account if self.p(0.72) else (B if account == A else A)
        action = self.pick(ACTIONS)
        return {"principal": principal, "action": self.recase(action) if self.p(0.15) else action,
                "resource": self.resource(ctx, owner), "context": ctx}

    # ---------------------------------------------------------------- text patterns
    def single(self, req, key):
        for k, v in req["context"].items():
            if k.lower() == key.lower():
                return v if isinstance(v, str) else (v[0] if len(v) == 1 else None)
        return None

    def variable(self, req, hint=None):
        """A ${...}; hint = the text it would best stand for."""
        fits = [k for k in KEYS if hint is not None and self.single(req, k) == hint]
        if fits and self.p(0.7):
            key = self.pick(fits)
        else:
            key = self.pick(["aws:PrincipalTag/team", "aws:username", "aws:ResourceTag/env",
                             "aws:PrincipalTag/missing", "aws:TagKeys",
                             "aws:PrincipalTag/Cost Center"])
        if self.p(0.4):
            key = self.recase(key)
        if self.p(0.3):
            default = hint if hint is not None and "'" not in hint and "}" not in hint and self.p(0.5) \
                else self.pick(["red", "*", "orders", "", "a:b", "o*", "alice"])
            return "${%s,%s'%s'}" % (key, "" if self.p(0.15) else " ", default)
        return "${%s}" % key

    def escaped(self, s):
        """The text with its * and ? (and $ before {) written as literals."""
        s = s.replace("$", "\0")
        s = s.replace("*", "${*}").replace("?", "${?}")
        return s.replace("\0", "${$}")

    def globbed(self, s):
        """A wildcard pattern made from s; mostly matches s."""
        if self.p(0.12):
            return "*"
        i = self.r.randint(0, len(s))
        j = self.r.randint(i, len(s))
        return self.weighted([
            (s[:i] + "*", 3), ("*" + s[i:], 2), (s[:i] + "*" + s[j:], 4),
            (s[:i] + "?" + s[i + 1:], 3),               # matches unless i == len(s)
            (s[:i] + "*" + s[i:j] + "*" + s[j:], 1),
            (s + "?", .7), ("?" + s, .4), (s[:i] + "**" + s[j:], .5),
            (s[:i] + "*?" + s[i:], .5), (s[:i] + "${*}" + s[j:], .5), (s + "*x", .5)])

    def text(self, req, base, like):
        """A string policy value about the request text base; like: wildcards mean something."""
        plain = [(base, 4), (self.pick(TAGS), 2), (base.swapcase(), 1), (base + "x", .7),
                 (self.globbed(base), 7 if like else 1.5), (self.escaped(base), 1.3),
                 (self.variable(req, base), 2.5)]
        if base:
            i = self.r.randint(0, len(base) - 1)
            j = self.r.randint(i + 1, len(base))
            plain.append((base[:i] + self.variable(req, base[i:j]) + base[j:], 1))
        return self.tidy(self.weighted(plain))

    def tidy(self, s):
        """No malformed ${: values such as "${aws:username}" cut in two."""
        out, i = "", 0
        while i < len(s):
            if s.startswith("${", i):
                end = s.find("}", i)
                inner = s[i + 2:end] if end >= 0 else ""
                if end < 0 or not inner or "{" in inner or \
                        (inner not in "*?$" and ":" not in inner):
                    i += 2
                    continue
                out += s[i:end + 1]
                i = end + 1
            else:
                out += s[i]
                i += 1
        return out

    # ---------------------------------------------------------------- ARN patterns
    def arn_pattern(self, req, arn):
        """A six-part pattern about the ARN; mostly matches it."""
        parts = arn.split(":", 5)
        if len(parts) != 6:
            return self.pick(ARNS)
        last = parts[5]
        if ":" in last and self.p(0.3):     # a flat glob would match, part by part does not
            k = self.r.randint(1, 3)
            flat = arn.split(":")
            joined = flat[:k] + ["*"] + flat[k + 2:]
            pattern = self.tidy(":".join(joined))
            if re.sub(r"\$\{[^}]*\}", "", pattern).count(":") >= 5:
                return pattern
        for k in range(1, 5):
            if self.p(0.2):
                parts[k] = self.weighted([("*", 6), (self.globbed(parts[k]) if parts[k] else "*", 2),
                                          ("?", .3), ("us-east-1", .4)])
            elif self.p(0.015):
                parts[k] = self.variable(req, parts[k])
        if self.p(0.06):
            parts[self.pick([1, 2, 3, 4])] = self.pick(["aws-cn", "sqs", "us-west-9", B, ""])
        seg = last.split("/")
        choice = self.weighted([("exact", 4), ("glob", 5), ("tail", 4), ("var", 7), ("mid", 2),
                                ("escape", 2), ("other", 1.5), ("case", .6), ("all", 1)])
        if choice == "glob":
            head = seg[0] + "/" if len(seg) > 1 else ""
            last = head + self.globbed(last[len(head):])
        elif choice == "tail":
            last = "/".join(seg[:-1] + [self.globbed(seg[-1])])
        elif choice == "var":
            tail = self.variable(req, seg[-1])
            if self.p(0.2):
                tail += self.pick(["*", "?", "x"])
            last = "/".join(seg[:-1] + [tail])
        elif choice == "mid":
            k = self.r.randrange(len(seg))
            seg[k] = self.pick(["*", self.globbed(seg[k])])
            last = "/".join(seg)
        elif choice == "escape":
            last = "/".join(seg[:-1] + [self.escaped(seg[-1]) if self.p(0.7) else
                                        self.pick(["${*}", "${?}", "o${*}"])])
        elif choice == "other":
            last = "/".join(seg[:-1] + [self.pick(NAMES)])
        elif choice == "case":
            last = last.swapcase()
        elif choice == "all":
            last = "*"
        parts[5] = last
        return self.tidy(":".join(parts))

    def resource_pattern(self, req, rich):
        if self.p(0.2 if rich else 0.5) or req["resource"] == "*":
            return "*"
        if self.p(0.12):
            return self.pick(ARNS)
        if not rich and self.p(0.5):
            head = req["resource"].split("/")[0]
            return head + "/*"
        return self.arn_pattern(req, req["resource"])

    # ---------------------------------------------------------------- actions
    def action_pattern(self, req, rich):
        a = req["action"]
        service, name = a.split(":")
        i = self.r.randint(0, len(name))
        j = self.r.randint(i, len(name))
        return self.weighted([
            ("*", 3 if rich else 5), (service + ":*", 3), (a, 4), (self.recase(a), 2),
            (service + ":" + name[:i] + "*", 1.5), (service + ":*" + name[i:], 1),
            (service + ":" + (name[:i] + "*" + name[j:]), 1.5),
            (service + ":" + name[:i] + "?" + name[i + 1:], 1),
            (service + ":" + name + "?", .3),
            (self.pick(ACTIONS), 2), ("kafka-cluster:*Topic", .7), ("foo:Bar*", .4),
            ("kafka-cluster:NoSuchAction", .3), ("kafka-cluster:?????Data", .5)])

    # ---------------------------------------------------------------- conditions
    def condition(self, req):
        type_ = self.weighted(list(TYPE_WEIGHT.items()))
        key = self.pick([k for k, t in KEYS.items() if t == type_])
        if self.p(0.05):
            key = self.pick(["aws:PrincipalTag/missing", "aws:ViaAWSService", "no:such"])
        have = next((v for k, v in req["context"].items() if k.lower() == key.lower()), None)
        have = [have] if isinstance(have, str) else (have or [])
        if self.p(0.07):
            spelled = self.recase(key) if self.p(0.4) else key
            return "Null", spelled, self.weighted([("true", 3), ("false", 3), (True, 1), (False, 1),
                                                   (["true"], 1), (["true", "false"], .5)])
        op = self.pick(STRING_OPS if self.p(0.06) and type_ != "binary" else OPS[type_])
        n = self.weighted([(1, 5), (2, 3), (3, 1)])
        values = [self.policy_value(req, op, self.pick(have) if have else self.value(type_))
                  for _ in range(n)]
        prefix = ""
        if self.p(0.55 if type_ == "strings" else 0.25):
            prefix = self.pick(["ForAllValues:", "ForAnyValue:"])
        suffix = "IfExists" if self.p(0.17) else ""
        if prefix == "ForAnyValue:" and suffix and self.p(0.7):
            suffix = ""
        return prefix + op + suffix, self.recase(key) if self.p(0.4) else key, self.one_or_list(values)

    def policy_value(self, req, op, base):
        if op.startswith("Arn") and self.p(0.08):
            return self.variable(req, base)
        if op.startswith("String"):
            return self.text(req, base, "Like" in op)
        if op.startswith("Arn"):
            return self.weighted([
                (self.arn_pattern(req, base), 9), (self.tidy(base), 3), ("*", .7), (self.pick(ARNS), 2),
                ("arn:aws:kafka*", .4), ("garbage", .3), ("arn:*", .3),
                ("arn:aws:*:*:*:*", 1), ("arn:aws:s3:::bucket/" + self.variable(req), .7)])
        if op == "Bool":
            return self.pick(["true", "false", True, False, "TRUE", "False"])
        if op == "BinaryEquals":
            return base if base in BLOBS and self.p(0.5) else self.pick(BLOBS)
        if "IpAddress" in op:
            return base if base in IPS and self.p(0.25) else self.pick(NETS)
        if op.startswith("Numeric"):
            v = base if base in NUMBERS and self.p(0.4) else self.pick(NUMBERS)
            if self.p(0.3):
                return self.pick([0, 5, -3, 10, 10.5, 9, 100, 300])
            return v
        same = [i for i, s in enumerate(INSTANTS) if base in s]
        v = self.pick(INSTANTS[same[0]] if same and self.p(0.4) else self.pick(INSTANTS))
        return int(v) if v.isdigit() and self.p(0.5) else v

    # ---------------------------------------------------------------- principals
    def forms(self, req):
        p = req["principal"]
        account = p.split(":")[4]
        out = [p, self.pick([account, "arn:aws:iam::%s:root" % account])]
        if ":assumed-role/" in p:
            out.append("arn:aws:iam::%s:role/%s" % (account, p.split("/")[1]))
        return out

    def other_principal(self):
        acc = self.pick([A, B])
        return self.weighted([
            ("arn:aws:iam::%s:%s" % (acc, self.pick(USERS)), 3),
            ("arn:aws:sts::%s:%s" % (acc, self.pick(SESSIONS)), 3),
            ("arn:aws:iam::%s:role/%s" % (acc, self.pick(["Writer", "Reader"])), 3),
            (self.pick(["777788889999", "arn:aws:iam::777788889999:root"]), 2)])

    def principal(self, req, negative, effect):
        if negative:
            forms = self.forms(req)
            if effect == "Deny":
                listed = forms if self.p(0.6) else [f for f in forms if self.p(0.5)]
            else:
                listed = [f for f in forms if self.p(0.15)]
            listed = list(listed) + [self.other_principal() for _ in range(self.pick([0, 1]))]
            if self.p(0.04):
                listed.append("*")
            listed = listed or [self.other_principal()]
            self.r.shuffle(listed)
            return {"AWS": self.one_or_list(listed)}
        if self.p(0.15):
            return self.pick(["*", {"AWS": "*"}, {"AWS": ["*"]}])
        if self.p(0.05):
            return self.pick([{"Service": "kafka.amazonaws.com"},
                              {"Federated": "cognito-identity.amazonaws.com"},
                              {"Service": ["a.amazonaws.com", "b.amazonaws.com"]}])
        listed = [self.pick(self.forms(req))] if self.p(0.75) else [self.other_principal()]
        while self.p(0.25):
            listed.append(self.pick(self.forms(req) + [self.other_principal()]))
        self.r.shuffle(listed)
        out = {"AWS": self.one_or_list(listed)}
        if self.p(0.06):
            out["Service"] = "kafka.amazonaws.com"
        return out

    # ---------------------------------------------------------------- statements, policies
    def statement(self, req, effect, resource_policy=False, rich=True):
        s = {}
        if self.p(0.25):
            s["Sid"] = "S%d" % self.r.randrange(10 ** 6)
        s["Effect"] = effect
        if resource_policy:
            negative = self.p(0.25 if effect == "Deny" else 0.1)
            s["NotPrincipal" if negative else "Principal"] = self.principal(req, negative, effect)
        if self.p(0.12 if rich else 0.05):
            n = self.weighted([(1, 3), (2, 2)])
            s["NotAction"] = self.one_or_list(
                [self.action_pattern(req, rich) if self.p(0.35) else
                 self.pick([a for a in ACTIONS if a.lower() != req["action"].lower()])
                 for _ in range(n)])
        else:
            n = self.weighted([(1, 4), (2, 2), (3, 1)])
            s["Action"] = self.one_or_list([self.action_pattern(req, rich) for _ in range(n)])
        if self.p(0.17 if rich else 0.05):
            n = self.weighted([(1, 3), (2, 2)])
            s["NotResource"] = self.one_or_list(
                [self.arn_pattern(req, req["resource"]) if self.p(0.5) else self.pick(ARNS)
                 for _ in range(n)])
        else:
            n = self.weighted([(1, 5), (2, 2), (3, .6)])
            s["Resource"] = self.one_or_list([self.resource_pattern(req, rich) for _ in range(n)])
        n = self.weighted([(0, 3), (1, 6), (2, 2), (3, 1)] if rich else [(0, 6), (1, 2)])
        if n:
            cond = {}
            for _ in range(n):
                op, key, values = self.condition(req)
                keys = cond.setdefault(op, {})
                if key.lower() not in [k.lower() for k in keys]:
                    keys[key] = values
            if n > 1 and self.p(0.2):                      # several keys under one operator
                op = self.pick(["StringEquals", "StringNotEquals", "StringLike", "StringEqualsIfExists",
                                "ForAllValues:StringLike", "StringNotLike"])
                cond = {op: {k: self.one_or_list(
                    [self.text(req, self.single(req, k) or "red", "Like" in op)
                     for _ in range(self.pick([1, 2]))])
                    for k in self.r.sample(["aws:PrincipalTag/team", "aws:ResourceTag/env", "aws:username",
                                            "aws:UserAgent"], 2)}}
            s["Condition"] = cond
        if self.p(0.2):
            items = list(s.items())
            self.r.shuffle(items)
            s = dict(items)
        return s

    def policy(self, statements):
        p = {}
        v = self.weighted([("2012-10-17", 8), ("2008-10-17", 1), (None, 1)])
        if v:
            p["Version"] = v
        if self.p(0.1):
            p["Id"] = "policy-1"
        p["Statement"] = statements[0] if len(statements) == 1 and self.p(0.3) else statements
        if self.p(0.1):
            p = dict(reversed(list(p.items())))
        return p

    ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}

    def focused(self, req):
        """One interesting statement decides."""
        case = {"identity": []}
        where = self.weighted([("identity", 10), ("boundary", 1.5), ("session", 1.5), ("resource", 3)])
        deny = self.p(0.55)
        stmt = self.statement(req, "Deny" if deny else "Allow", where == "resource")
        everyone = dict(self.ALL, Principal="*")
        base = [dict(everyone if where == "resource" else self.ALL)] if deny else []
        stmts = base + [stmt]
        self.r.shuffle(stmts)
        if where == "identity":
            if deny and self.p(0.3):
                case["identity"] = [self.policy([s]) for s in stmts]
            else:
                case["identity"] = [self.policy(stmts)]
        else:
            if self.p(0.75):
                case["identity"] = [self.policy([dict(self.ALL)])]
            case["resource_policy" if where == "resource" else where] = self.policy(stmts)
        return case

    def spotlight(self, req):
        """A classic trap alone decides."""
        stmt = dict(self.ALL, Effect=self.pick(["Allow", "Deny"]))
        tag, tag2 = "aws:PrincipalTag/team", "aws:ResourceTag/env"
        k = self.pick([1, 2, 3])

        def put(key, value):
            for old in [x for x in req["context"] if x.lower() == key.lower()]:
                del req["context"][old]
            if value is not None:
                req["context"][self.recase(key) if self.p(0.3) else key] = value

        def cond(ops, key, want, have, prefixes=True):
            op = self.pick(ops)
            if prefixes and self.p(0.35):
                op = self.pick(["ForAllValues:", "ForAnyValue:"]) + op
            if prefixes and self.p(0.1) and not op.startswith("ForAny"):
                op += "IfExists"
            stmt["Condition"] = {op: {key: want}}
            put(key, have)

        topic = "arn:aws:kafka:us-east-1:%s:topic/demo/u-1/" % A
        kind = self.pick(["ignorecase", "family", "arnparts", "fraction", "default", "unicode", "varstar",
                          "literal", "unparsable", "absent", "resvar", "resparts", "nor", "empty",
                          "order", "resfuture", "elsewhere"] + ["grid"] * 11)
        if kind == "ignorecase":
            cond(["StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringEquals"], tag,
                 self.pick(["ünï", "Red", "RED*", "éa"]), self.pick(["ÜNÏ", "reD", "red*", "redx", "ÉA"]))
        elif kind == "family":
            cond(["IpAddress", "NotIpAddress"], "aws:SourceIp",
                 self.pick(["0.0.0.0/0", "::/0", ["::/0", "0.0.0.0/0"], "10.1.2.3", "2001:db8::1", "10.1.2.3/31"]),
                 self.pick(["10.1.2.3", "10.1.2.2", "10.1.2.4", "2001:db8::1", "2001:db8::2", "::", "0.0.0.0"]))
        elif kind == "arnparts":
            cond(OPS["arn"], "aws:SourceArn", self.pick([
                "arn:*:us-east-1:%s:topic/demo/u-1/a:b" % A, "arn:aws:*:%s:topic/demo/u-1/a:b" % A,
                topic + "a*", topic + "*b", topic + "a?b", "arn:aws:*:*:*:*/a:b", "arn:aws*", "*", "arn:*",
                "arn:aws:kafka:us-east-1:*:a:b", topic.upper() + "a:b", topic + "${*}"]),
                self.pick([topic + "a:b", topic + "a", topic + "*"]))
        elif kind == "fraction":
            cond(OPS["date"], "aws:CurrentTime",
                 self.pick(self.pick(INSTANTS[1:4])), self.pick(self.pick(INSTANTS[1:4])))
        elif kind == "default":
            d = self.pick(["*", "r?d", "o*", "red", ""])
            cond(STRING_OPS, tag, "${%s, '%s'}%s" % (tag2, d, self.pick(["", "", "*"])),
                 self.pick(["red", "*", "r?d", "o*", "orders", ""]))
            put(tag2, self.pick([None, None, [], "red", "*", "", ["red", "*"], ["red"]]))
        elif kind == "unicode":
            if self.p(0.5):
                cond(STRING_OPS, tag, self.pick(["ün?", "?nï", "??", "日?", "?", "???", "日*"]),
                     self.pick(["ünï", "日本", "日", "a", "ab"]))
            else:
                stmt["Resource"] = topic + self.pick(["?", "??", "???", "ün?", "日*", "????"])
                req["resource"] = topic + self.pick(["ünï", "日本", "日", "a"])
        elif kind == "varstar":
            cond(STRING_OPS, tag, self.pick(["${%s}" % tag2, "${%s}*" % tag2, "?${%s}" % tag2]),
                 self.pick(["red", "orders", "*", "r*", "xr*"]))
            put(tag2, self.pick(["*", "r*", "r?d", "?ed", "red", "", None, ["*"], ["red", "orders"]]))
        elif kind == "literal":
            cond(STRING_OPS, tag, self.pick(["r*d", "r?d", "r${*}d", "r${?}d", "${$}{x}", "*", "${*}", "${*}*"]),
                 self.pick(["red", "r*d", "r?d", "rd", "${x}", "*", "*x", "reed"]))
        elif kind == "unparsable":
            type_ = self.pick(["ip", "date", "number", "binary"])
            key = self.pick([x for x, t in KEYS.items() if t == type_])
            base = self.value(type_)
            op = self.pick(OPS[type_])
            junk = self.pick(["", "garbage", "1.2.3", "*", "2024-13-01", "!!!!", "10.0.0.256"])
            cond([op], key, self.policy_value(req, op, base),
                 self.pick([junk, [junk, base], [base, junk], base]))
        elif kind == "absent":
            op, key, _ = self.condition(req)
            type_ = KEYS.get(key, self.pick(["string"]))
            if op == "Null" or key not in KEYS:
                cond(["Null"], tag, self.pick(["true", "false"]), self.pick([None, [], "", "red", ["a", "b"]]), False)
            else:
                op = self.pick(OPS[type_])
                prefix = self.pick(["", "", "ForAllValues:", "ForAnyValue:"])
                suffix = "IfExists" if self.p(0.4) and (prefix != "ForAnyValue:" or self.p(0.3)) else ""
                v = self.value(type_)
                cond([prefix + op + suffix], key, self.policy_value(req, op, v),
                     self.pick([None, None, [], v]), False)
        elif kind == "resvar":
            stmt.pop("Resource")
            stmt[self.pick(["Resource", "Resource", "NotResource"])] = self.pick([
                topic + "${%s}" % tag, topic + "${%s}*" % tag, topic + "${%s, '%s'}" % (tag, self.pick(["*", "red", "o*"])),
                [topic + "zzz", topic + "${%s}" % tag], [topic + "*", topic + "${%s}" % tag]])
            req["resource"] = topic + self.pick(["red", "orders", "*", "o*", "", "a:b"])
            put(tag, self.pick(["red", "*", "o*", "", None, [], ["red", "*"], ["red"], "orders", "a:b", "?ed"]))
        elif kind == "resparts":
            stmt["Resource"] = self.pick([
                "arn:*:us-east-1:%s:topic/demo/u-1/a:b" % A, "arn:aws:*:%s:topic/demo/u-1/a:b" % A,
                "arn:aws:kafka:*:topic/demo/u-1/a:b", topic + "*", topic + "a*b", topic + "a?b",
                "arn:aws:kafka:*:*:*", "arn:*:*:*:*:*b", "arn:aws:kafka:us-east-1:*/a:b",
                "arn:aws:kafka:us-east-1:*:a:b", "arn:aws:kaf*:us-*-1:%s*:topic*" % A[:5]])
            if stmt["Resource"].count(":") < 5:
                stmt["Resource"] = topic + "a:*"
            req["resource"] = topic + self.pick(["a:b", "a:b", "a", "*", "a*b", "a:c:b"])
        elif kind == "nor":
            cond(["StringNotEquals", "StringNotLike", "StringEquals", "StringLike"], "aws:TagKeys",
                 self.r.sample(["red", "blue", "r*", "x"], k),
                 self.r.sample(["red", "blue", "green", "r*"], self.pick([1, 2, 3])))
        elif kind == "empty":
            cond(STRING_OPS, tag, self.pick(["", "*", "${%s}" % tag2, "${%s, 'x'}" % tag2]),
                 self.pick(["", "x", "*", None]))
            put(tag2, self.pick(["", None, "x", [""]]))
        elif kind == "order":
            cond(OPS["number"], "kafka-cluster:count", self.pick([9, "9", 10, "10.0", "-3", ["5", "100"], "010"]),
                 self.pick(["9", "10", "100", "-3", "-4", "9.99", "05", ["5", "100"]]))
        elif kind == "resfuture":
            req["resource"] = topic + self.pick(["*", "a?c", "orders", "abc", "?"])
            stmt["Resource"] = topic + self.pick(["orders", "a?c", "a${?}c", "${*}", "?", "*", "abc", "o*"])
        elif kind == "grid":           # every operator form alike
            type_, op = self.pick([(t, o) for t, ops in OPS.items() if t != "strings" for o in ops])
            if type_ == "string":
                type_ = "strings"
            key = self.pick([x for x, t in KEYS.items() if t == type_])
            values = [self.value(type_) for _ in range(self.pick([1, 1, 2, 3]))]
            want = [self.policy_value(req, op, self.pick(values)) for _ in range(self.pick([1, 1, 2, 3]))]
            cond([self.pick(["", "ForAllValues:", "ForAnyValue:"]) + op + self.pick(["", "IfExists"])], key,
                 self.one_or_list(want), self.weighted([(self.one_or_list(values), 5), (None, 1), ([], .3)]), False)
        elif kind == "elsewhere":      # an unresolved variable in a value which is not needed
            ops = self.pick(["StringEqualsIfExists", "StringLike", "ForAllValues:StringEquals", "StringNotEquals",
                             "ArnNotLike", "ForAllValues:ArnLikeIfExists"])
            good = "arn:aws:s3:::b/x" if "Arn" in ops else "red"
            var = "arn:aws:s3:::b/${%s}" % tag2 if "Arn" in ops else "${%s}" % tag2
            stmt["Condition"] = {ops: {tag: self.pick([[good, var], [var, good], var])}}
            put(tag, self.pick([None, [], good, "other"]))
            put(tag2, self.pick([None, None, [], ["a", "b"], "red"]))
        stmts = ([dict(self.ALL)] if stmt["Effect"] == "Deny" else []) + [stmt]
        p = self.policy(stmts)
        if "Version" not in p or p["Version"] != "2012-10-17":
            if self.p(0.7):
                p["Version"] = "2012-10-17"
        if "2008" in p.get("Version", "2008") and ("${*}" in json.dumps(p) or "${?}" in json.dumps(p)):
            p["Version"] = "2012-10-17"
        return {"identity": [p]}

    def grants(self, req):
        """Which principal form grants past which limit; plain statements only."""
        none = {"Effect": "Allow", "Action": "foo:*", "Resource": "*"}
        plain = lambda p: self.policy([dict(self.ALL if self.p(p) else none)])
        case = {"identity": [plain(0.5)] if self.p(0.6) else []}
        if self.p(0.5):
            case["boundary"] = plain(0.45)
        if self.p(0.5):
            case["session"] = plain(0.45)
        forms = self.forms(req)
        effect = self.weighted([("Allow", 4), ("Deny", 1)])
        s = dict(self.ALL, Effect=effect)
        if self.p(0.25):
            listed = [f for f in forms if self.p(0.8 if effect == "Deny" else 0.2)]
            s["NotPrincipal"] = {"AWS": listed or [self.other_principal()]}
        else:
            s["Principal"] = self.weighted([({"AWS": self.pick(forms)}, 6), ("*", 1),
                                            ({"AWS": self.other_principal()}, 1),
                                            ({"AWS": self.r.sample(forms, 2)}, 1)])
        stmts = [s] + ([dict(self.ALL, Principal={"AWS": self.pick(forms)})] if effect == "Deny" else [])
        case["resource_policy"] = self.policy(stmts)
        return case

    def layered(self, req):
        def some(resource_policy=False):
            n = self.weighted([(1, 5), (2, 3), (3, 1)])
            return self.policy([self.statement(req, "Deny" if self.p(0.12) else "Allow",
                                               resource_policy, self.p(0.35)) for _ in range(n)])
        case = {"identity": [some() for _ in range(self.weighted([(0, 2), (1, 6), (2, 2)]))]}
        if self.p(0.35):
            case["boundary"] = some()
        if self.p(0.35 if ":sts:" in req["principal"] else 0.1):
            case["session"] = some()
        if self.p(0.6):
            case["resource_policy"] = some(True)
        return case

    def valid(self):
        target = self.pick(["allowed", "explicitDeny", "implicitDeny"])
        make = self.weighted([(self.focused, 30), (self.layered, 28), (self.spotlight, 33),
                              (self.grants, 9)])
        for _ in range(12):
            req = self.request()
            case = make(req)
            case.update(req)
            answer = evaluate(load(dump(case)))
            if "error" in answer:
                raise AssertionError("generator made an invalid case: %s\n%s" % (answer, dump(case)))
            if answer["decision"] == target:
                break
        return case

    # ---------------------------------------------------------------- invalid cases
    def invalid(self, no_dup):
        case = self.layered(self.request_into())
        case.update(self.last)
        if not case["identity"]:
            case["identity"] = [self.policy([dict(self.ALL)])]
        kinds = ["resource", "operator", "sid-repeated", "sid-chars", "no-principal",
                 "identity-principal", "empty", "effect", "version", "action", "value", "principal",
                 "missing", "variable"] + ([] if no_dup else ["duplicate"])
        kind = self.pick(kinds)
        names = ["identity"] * 3 + [n for n in ("boundary", "session", "resource_policy") if n in case]
        if kind in ("no-principal", "principal"):
            case.setdefault("resource_policy", self.policy([dict(self.ALL, Principal="*")]))
            names = ["resource_policy"]
        if kind == "identity-principal":
            names = [n for n in names if n != "resource_policy"]
        name = self.pick(names)
        policy = self.pick(case[name]) if name == "identity" else case[name]
        if not isinstance(policy["Statement"], list):
            policy["Statement"] = [policy["Statement"]]
        s = self.pick(policy["Statement"])
        a = "NotAction" if "NotAction" in s else "Action"
        r = "NotResource" if "NotResource" in s else "Resource"
        listed = lambda v: list(v) if isinstance(v, list) else [v]
        cond = s.setdefault("Condition", {})
        if kind == "variable":
            policy["Version"] = "2012-10-17"
            text = self.pick(["${aws:username", "${aws:username, 'a}", "${}"])
            if self.p(0.5):
                s[r] = "arn:aws:kafka:us-east-1:111122223333:topic/a/b/" + text
            else:
                cond["ArnLike"] = {"aws:SourceArn": text}
        elif kind == "resource":
            s[r] = self.spoil(listed(s[r]), ["topic/demo/u-1/orders", "arn:aws:kafka", "", "**", "orders*",
                                             "arn:aws:kafka:us-east-1:%s" % A, "urn:aws:kafka:a:b:c"])
        elif kind == "operator":
            op = self.pick(["BoolNot", "NullIfExists", "StringMatches", "ForAllValues:Null",
                            "ForAnyValue:Null", "ForSomeValues:StringEquals", "BinaryNotEquals",
                            "StringEqualsIfExistsIfExists", "ArnLikeNot", "NotNull", "BoolNotIfExists",
                            "ForAllValues:ForAnyValue:StringEquals", "NumericLike", "", "IfExists"])
            cond[op] = {"aws:SecureTransport": "true"}
        elif kind == "sid-repeated":
            s["Sid"] = "Twice"
            policy["Statement"].append(dict(self.statement(self.last, "Deny", name == "resource_policy"),
                                            Sid="Twice"))
        elif kind == "sid-chars":
            s["Sid"] = self.pick(["my-sid", "a b", "a_b", "é", "x.y", "S1!"])
        elif kind == "no-principal":
            s.pop("Principal", None)
            s.pop("NotPrincipal", None)
        elif kind == "identity-principal":
            s[self.pick(["Principal", "Principal", "NotPrincipal"])] = self.pick(
                ["*", {"AWS": A}, {"AWS": self.last["principal"]}])
        elif kind == "empty":
            s[self.pick([a, r])] = []
        elif kind == "effect":
            s["Effect"] = self.pick(["allow", "DENY", "Permit", ""])
        elif kind == "version":
            policy["Version"] = self.pick(["2012-10-18", "2024-01-01", "", "1", "2008-10-7"])
        elif kind == "action":
            s[a] = self.spoil(listed(s[a]), ["ReadData", "kafka-*:ReadData", "*:*", "*:ReadData",
                                             "kafka?cluster:Connect", ":ReadData", "", "Read*"])
        elif kind == "value":
            op, key, bad = self.pick([
                ("NumericEquals", "kafka-cluster:count", "abc"), ("NumericLessThan", "kafka-cluster:count", ""),
                ("NumericLessThan", "kafka-cluster:count", "${aws:EpochTime}"),
                ("NumericNotEquals", "kafka-cluster:count", "1,5"),
                ("DateLessThan", "aws:CurrentTime", "yesterday"),
                ("DateGreaterThan", "aws:CurrentTime", "2024-13-01"),
                ("DateEquals", "aws:CurrentTime", "2024-02-30T00:00:00Z"),
                ("DateNotEquals", "aws:CurrentTime", "${aws:CurrentTime}"),
                ("IpAddress", "aws:SourceIp", "10.0.0.0/33"), ("IpAddress", "aws:SourceIp", "10.0.0"),
                ("NotIpAddress", "aws:SourceIp", "10.0.0.256/8"), ("IpAddress", "aws:SourceIp", "*"),
                ("NotIpAddress", "aws:SourceIp", "2001:db8::/129"),
                ("IpAddress", "aws:SourceIp", "${aws:SourceIp}"),
                ("BinaryEquals", "kafka-cluster:blob", "!!!!"), ("BinaryEquals", "kafka-cluster:blob", "YWJjZA"),
                ("BinaryEquals", "kafka-cluster:blob", "a b=")])
            if self.p(0.4):
                op = self.pick(["ForAllValues:", "ForAnyValue:"]) + op
            if self.p(0.3):
                op += "IfExists"
            good = {"N": "5", "D": "2024-01-01", "I": "10.0.0.1", "B": "YWJj"}
            base = op.split(":")[-1]
            first = good["I" if "IpAddress" in base else base[0]]
            cond[op] = {key: self.pick([bad, [bad], [first, bad]])}
        elif kind == "principal":
            s.pop("NotPrincipal", None)
            s.pop("Principal", None)
            bad = self.pick(["arn:aws:iam::%s:user/*" % A, "arn:aws:iam::*:root", "arn:aws:iam::%s:*" % A,
                             "arn:aws:sts::%s:assumed-role/Writer/*" % A, "arn:aws:iam::%s:user/al?ce" % A,
                             "arn:aws:iam::%s:role/W*" % A])
            s[self.pick(["Principal", "Principal", "NotPrincipal"])] = {
                "AWS": self.pick([bad, [A, bad]])}
        elif kind == "missing":
            del s[self.pick(["Effect", a, r])]
        elif kind == "duplicate":
            # a NUL at the end of a key is dropped by dump(): the key is then there twice
            where = self.pick(["Effect", a, r, "Condition", "Version", "Statement", "operator", "key"])
            if where == "Version":
                policy["Version"] = "2012-10-17"
                policy["Version\0"] = "2012-10-17"
            elif where == "Statement":
                policy["Statement\0"] = policy["Statement"]
            elif where == "operator":
                cond["StringEquals"] = {"aws:username": "alice"}
                cond["StringEquals\0"] = {"aws:UserAgent": "x"}
            elif where == "key":
                cond["StringEquals"] = {"aws:username": "alice", "aws:username\0": "bob"}
            else:
                s[where + "\0"] = s[where]
        if s.get("Condition") == {} and kind != "duplicate":
            del s["Condition"]
        if "error" not in evaluate(load(dump(case))):
            raise AssertionError("%s should be invalid: %s" % (kind, dump(case)))
        return case

    def request_into(self):
        self.last = self.request()
        return self.last

    def spoil(self, good, bads):
        out = [self.pick(bads)] + (good if self.p(0.5) else [])
        self.r.shuffle(out)
        return self.one_or_list(out)


def dump(case):
    return json.dumps(case, ensure_ascii=False).replace("\\u0000", "")


def main(argv):
    no_dup, no_invalid = "--no-dup" in argv, "--no-invalid" in argv
    seed, count = [a for a in argv if not a.startswith("--")]
    g = Gen(int(seed))
    for i in range(int(count)):
        case = g.invalid(no_dup) if not no_invalid and g.p(0.05) else g.valid()
        print(dump(dict({"id": "%s-%d" % (seed, i)}, **case)))


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    main(sys.argv[1:])
