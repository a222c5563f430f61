"""Whether all is well, from what the nodes say of themselves (`loggos status --json`)."""

# How far the slowest node may be behind the fastest.
LEVEL_SLOTS = 100


def agreed_leader(answers, nodes):
    """The leader, if all nodes answered, follow it, hear each other and are level; else None."""
    if sorted(answers) != sorted(nodes):
        return None
    leaders = {answer["leader"] for answer in answers.values()}
    heard = all(peer["heard"] for answer in answers.values() for peer in answer["peers"])
    ends = [answer["first_unchosen"] for answer in answers.values()]
    if len(leaders) != 1 or not heard or max(ends) - min(ends) > LEVEL_SLOTS:
        return None
    (leader,) = leaders
    return leader if leader is not None and answers[leader]["leading"] else None
