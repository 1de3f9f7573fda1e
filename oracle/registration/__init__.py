"""Registration at an Account Lookup Service (ALS) elsewhere: whether it asks this oracle, and the rows that make it.

For.      An upgrade of a hub can wipe the rows of ALS.  Then ALS answers every lookup with 3003, "Oracle type not
          found".
Rules.    What ALS does with its rows is in docs/als-contract.md, section 6.  `rows` knows those rules, and only those.
Not here. Our own table of oracles (`oracle/scheme/oracles`), which counts where this service replaces ALS.

    rows          Row, Wanted and Finding: what ALS has, what is wanted, what differs and which acts would change that
    als_admin     the admin API of ALS as a client
    registration  Registration: examines ALS and makes what is missing, each act with its event
    views         how all of this is shown to people and programs
    job           RegistrationJob: checks again and again in the jobs process
"""
