"""What the operator decides, without I/O, clocks or chance: policies, pods, Secrets and answers of proxies go in;
documents, conditions, Events and nudges come out.

The order of use, for one policy: `policy_facts`, `pod_facts` and `secrets_view` are what is known; `judging` says
whether the policy can be in force, and with which document; `programming`, whether its pods run on it; `conditions`
makes the status of both, `transitions` the Events; `following` says which pods are asked and woken, and when,
and `turns` whose turn it is.
"""
