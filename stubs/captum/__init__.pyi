# The part of captum that captum_gradeclip uses; captum itself publishes no types.
