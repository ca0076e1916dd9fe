"""What code of the project raises to end more than itself, told apart from what is to end the process."""


def ends_the_process(error: BaseException) -> bool:
    # Celery has its own kinds of SystemExit, and its pool processes end on a signal with the code -(256 - signal). What
    # is left is code that calls sys.exit(): it would come back again and again if it took its worker along.
    if isinstance(error, SystemExit):
        return type(error) is not SystemExit or (isinstance(error.code, int) and -256 < error.code <= -192)
    return isinstance(error, KeyboardInterrupt)
