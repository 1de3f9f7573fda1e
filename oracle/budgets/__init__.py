"""Budgets against scans of the directory: how much each FSP can ask, whom they warn of, and whom they refuse.

Each FSP has a token bucket.  A lookup that finds somebody costs little, one that finds nobody costs more, and a
registration of an alias that another FSP holds costs most: guesses are expensive, payments are cheap.

    classes      the class of each FSP, and the size and refill of each class
    buckets      the buckets in the memory of one process; each lookup takes its tokens there (compiled)
    correction   once a second: what all processes took, through Redis
    emptiness    which buckets stay empty; history has an event of those

Mojaloop's own words: docs/operate.md, section "Budgets against scans".
"""
